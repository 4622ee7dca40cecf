"""What an autoencoder makes of pixels: fewer numbers, in which each stands for a patch."""

import torch
from torch import Tensor, nn

from diffusion_lab.spaces.space import Space


class Latents(Space):
    """(autoencoder.encode(pixels) - shift) * scale (Rombach et al. 2022, arXiv:2112.10752, sec. 3.1 and appendix G).

    No latent has bounds of its own, and none is a pixel: to flip, blur or average latents is not to do so to the image.

    Args:
        autoencoder: `encode(images)` gives latents (B, channels, size, size) of images (B, 3, H, W) from -1 to 1;
            `decode(latents)` such images.
        channels, size: of the latents.
        factor: pixels a side of the patch that a latent stands for, so that H = W = factor * size.
        scale, shift: that give latents about zero mean and unit variance.
    """

    def __init__(
        self, autoencoder: nn.Module, channels: int, size: int, factor: int, scale: float = 1.0, shift: float = 0.0
    ):
        super().__init__(channels, size)
        self.autoencoder = autoencoder
        self.factor, self.scale, self.shift = factor, scale, shift

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        _, height, width = self.shape
        return 3, self.factor * height, self.factor * width

    def encode(self, pixels: Tensor) -> Tensor:
        images = (2 * (part.float() / 255) - 1 for part in pixels.split(1))  # one by one: large images take much memory
        return torch.cat([(self.autoencoder.encode(image).float() - self.shift) * self.scale for image in images])

    def decode(self, images: Tensor) -> Tensor:
        decoded = [self.autoencoder.decode(latent.float() / self.scale + self.shift) for latent in images.split(1)]
        return (torch.cat(decoded).float() / 2 + 0.5).clamp(0, 1)


def mean_of(moments: Tensor, channels: int) -> Tensor:
    """The means (B, channels, h, w) of moments: those, or those and log variances."""
    return moments[:, :channels]


def deviation_of(moments: Tensor, channels: int) -> Tensor | None:
    """The standard deviations (B, channels, h, w) of moments; None where they hold none."""
    if moments.shape[1] == channels:
        return None
    return (0.5 * moments[:, channels:].clamp(-30, 20)).exp()
