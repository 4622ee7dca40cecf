"""A network that reads the class of a noisy image: the default U-Net's way down."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.embeddings import Sinusoid
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import ChannelNorm, ResidualBlock, zeroed
from diffusion_lab.sizes import Size, sides


class ClassifierNetwork(nn.Module):
    """The half of a `UNet` that leads down, and a linear layer (after Dhariwal and Nichol 2021, arXiv:2105.05233, sec. 4).
    Starts with equal probabilities.

    That layer sees every pixel in its place. Their mean reads digits worse: 96.3 % against 97.3 % right after 12 epochs.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by patch * 2 ** (len(widths) - 1).
        num_classes: of the labels, at least 2.
        widths: channels at each resolution, from fine to coarse.
        blocks: residual blocks at each resolution.
        patch: side of the stem's space-to-depth patches, in pixels.
        condition: width of the vector that carries the noise level.
        highest_frequency: of the noise level's sinusoids, in periods over the unit interval.

    Raises:
        UserError: the image size does not suit, or there are no classes to tell apart.
    """

    def __init__(
        self,
        channels: int,
        image_size: Size,
        num_classes: int,
        widths: tuple[int, ...] = (32, 64),
        blocks: int = 1,
        patch: int = 2,
        condition: int = 128,
        highest_frequency: float = 100.0,
    ):
        super().__init__()
        factor = patch * 2 ** (len(widths) - 1)
        check_size(image_size, factor, "classifier")
        if num_classes < 2:
            raise UserError(
                f"network=classifier needs 2 classes or more, and data.num_classes={num_classes}: take images with labels, "
                "as in data=folder with a subfolder for each class"
            )
        self.patch = patch
        self.level = nn.Sequential(
            Sinusoid(16, 1.0, highest_frequency), nn.Linear(32, condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.stem = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        x = widths[0]
        self.down = nn.ModuleList()
        for width in widths:
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[-1].append(ResidualBlock(x, width, condition))
                x = width
        self.norm = ChannelNorm(x)
        self.out = zeroed(nn.Linear(x * math.prod(side // factor for side in sides(image_size)), num_classes))

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1] or near it, to logits (B, num_classes)."""
        condition = F.silu(self.level(level))
        x = self.stem(F.pixel_unshuffle(noisy, self.patch).contiguous(memory_format=torch.channels_last))
        for i, blocks in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if i else x
            for block in blocks:
                x = block(x, condition)
        return self.out(F.silu(self.norm(x)).flatten(1))
