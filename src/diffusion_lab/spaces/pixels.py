"""Pixels themselves, centred and scaled per channel."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from diffusion_lab.sizes import Size
from diffusion_lab.spaces.space import Space

FEW = 32  # images whose sums are made at once, in a processor's cache


class Pixels(Space):
    """(pixels / 255 - mean) / std.

    Args:
        channels, size: of the images.
        mean, std: one for all channels, or one each; in pixel values from 0 to 1.
        sigma_data: standard deviation of the images in this space, about: what EDM's parts are told.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        sigma_data: float = 1.0,
    ):
        super().__init__(channels, size)
        self.sigma_data = sigma_data
        for name, value in (("mean", mean), ("std", std)):
            values = torch.as_tensor(value, dtype=torch.float32) * torch.ones(channels)
            self.register_buffer(name, values.view(-1, 1, 1))

    def encode(self, pixels: Tensor) -> Tensor:
        return (pixels.float() / 255 - self.mean) / self.std

    def decode(self, images: Tensor) -> Tensor:
        return (images.float() * self.std + self.mean).clamp(0, 1)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        return -self.mean / self.std, (1 - self.mean) / self.std


def over_white(images: Tensor, white: float = 1.0) -> Tensor:
    """Images (B, C, H, W) with transparency, four channels of values up to `white`, laid over white: (B, 3, H, W). Others as
    they are."""
    if images.shape[1] != 4:
        return images
    opacity = images[:, 3:] / white
    return images[:, :3] * opacity + white * (1 - opacity)


class Standardised(Pixels):
    """Zero mean and unit variance per channel, as measured on the training images."""

    def __init__(self, channels: int, size: Size, sigma_data: float = 1.0):
        super().__init__(channels, size, sigma_data=sigma_data)

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Set mean and std (C, 1, 1) to those of uint8 pixels (B, C, H, W), in pixel values from 0 to 1."""
        total, count = torch.zeros(2, len(self.mean), dtype=torch.int64), 0
        for few in (few for pixels in batches for few in pixels.split(FEW)):
            values = few.transpose(0, 1).flatten(1).long()  # whole numbers, so that no batch size makes a difference
            total += torch.stack([values.sum(1), values.square().sum(1)]).cpu()
            count += values.shape[1]
        mean, square = total / (count * torch.tensor([[255.0], [255.0**2]], dtype=torch.float64))
        std = (square - mean**2).clamp(min=0).sqrt()
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(torch.where(std > 0, std, 1.0).view(-1, 1, 1))  # one flat image still has a scale


class Symmetric(Pixels):
    """From -1 to 1, as most papers have it; another `mean` and `std` make other bounds."""

    def __init__(
        self,
        channels: int,
        size: Size,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        sigma_data: float = 0.5,
    ):
        super().__init__(channels, size, mean, std, sigma_data)
