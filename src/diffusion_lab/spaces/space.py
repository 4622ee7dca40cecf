"""What every space has."""

from collections.abc import Iterable

from torch import Tensor, nn

from diffusion_lab.sizes import Size, sides


class Space(nn.Module):
    """A place for images: a shape, a way in from pixels and a way back.

    Args:
        channels, size: of the images in this space; size is the side of a square, or (height, width).

    Attributes:
        shape: (C, H, W) of an image in this space.
    """

    def __init__(self, channels: int, size: Size):
        super().__init__()
        self.shape = (channels, *sides(size))

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, ...) to images of this space (B, C, H, W), float32."""
        raise NotImplementedError

    def decode(self, images: Tensor) -> Tensor:
        """Images of this space (B, C, H, W) to pixel values (B, ...), float32 clamped to [0, 1]."""
        raise NotImplementedError

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the pixels that it encodes and decodes to."""
        return self.shape

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The images of black and of white, to broadcast with images; None where no pixel has bounds of its own."""
        return None

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Learn from all training images, batches of uint8 pixels, what the space has to know of them: often nothing."""
