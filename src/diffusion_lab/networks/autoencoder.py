"""Autoencoders: images from -1 to 1 to fewer numbers, each of which stands for a patch, and back.

Each has `channels` (of the images), `latent_channels`, `factor` (pixels a side of that patch) and `variational`: whether
`moments(images)` gives a mean and a log variance for each latent, (B, 2 * latent_channels, h, w), or the latents alone;
`decode(latents)` gives images.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import ChannelNorm, zeroed
from diffusion_lab.sizes import Size


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection, as which it starts."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class KLAutoencoder(nn.Module):
    """A small convolutional autoencoder with a Gaussian for each latent (Rombach et al. 2022, arXiv:2112.10752, sec. 3.1).
    Its stem packs `patch` x `patch` pixels into channels, so that no work is done at full resolution.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), a multiple of patch * 2 ** (len(widths) - 1).
        latent_channels: numbers for each patch.
        widths: channels at each resolution, from fine to coarse.
        blocks: residual blocks at each, on the way in and on the way out.
        patch: side of the stem's space-to-depth patches, in pixels.
    """

    variational = True

    def __init__(
        self,
        channels: int,
        image_size: Size,
        latent_channels: int = 4,
        widths: tuple[int, ...] = (64, 128),
        blocks: int = 1,
        patch: int = 2,
    ):
        super().__init__()
        self.channels, self.latent_channels, self.patch = channels, latent_channels, patch
        self.factor = patch * 2 ** (len(widths) - 1)
        check_size(image_size, self.factor, "autoencoder")
        inwards, outwards = [nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)], []
        for i, width in enumerate(widths):
            if i:
                inwards.append(nn.Conv2d(widths[i - 1], width, 3, stride=2, padding=1))
            inwards += [ResidualBlock(width) for _ in range(blocks)]
        for i, width in reversed(list(enumerate(widths))):
            outwards += [ResidualBlock(width) for _ in range(blocks)]
            if i:
                outwards += [nn.Upsample(scale_factor=2), nn.Conv2d(width, widths[i - 1], 3, padding=1)]
        ends = (ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 2 * latent_channels, 3, padding=1))
        self.encoder = nn.Sequential(nn.PixelUnshuffle(patch), *inwards, *ends)
        begins = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        ends = (ChannelNorm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))
        self.decoder = nn.Sequential(begins, *outwards, *ends, nn.PixelShuffle(patch))

    def moments(self, images: Tensor) -> Tensor:
        """Means, then log variances (B, 2 * latent_channels, h, w), of images (B, C, H, W)."""
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents (B, latent_channels, h, w)."""
        return self.decoder(latents)
