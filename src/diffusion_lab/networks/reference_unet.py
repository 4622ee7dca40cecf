"""The reference system's U-Net: D. Falbel's "denoising-diffusion", and A. Beres's Keras DDIM example from which it comes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.networks.embeddings import Sinusoid
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.sizes import Size


class ResidualBlock(nn.Module):
    """BatchNorm, 3x3 convolution, Swish, 3x3 convolution; summed with a 1x1 convolution of the input.

    Args:
        plain: as in Keras's example: the input itself is added where widths match, and the norm learns no scale and offset.
    """

    def __init__(self, channels: int, width: int, plain: bool = False):
        super().__init__()
        self.residual = nn.Identity() if plain and channels == width else nn.Conv2d(channels, width, 1)
        # Keras's own defaults: eps, and how much of the running mean a batch replaces.
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01, affine=False) if plain else nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.conv2(F.silu(self.conv1(self.norm(x))))


class ReferenceUNet(nn.Module):
    """3,562,211 parameters with the default widths at 3 channels; 1,950,627 as in the Keras example. Labels are not used.

    The noise level's embedding is spread over the image and concatenated at the input; every up block concatenates
    the skip of its own down block.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by 2 ** len(widths).
        outputs: images put out for each one put in; 2 with a learned variance.
        widths: channels at each resolution; the resolution halves after each.
        blocks: residual blocks a level.
        middle: widths of the residual blocks at the lowest resolution; None: twice the last width, and that width.
        plain: see `ResidualBlock`; the levels upwards then have the widths of those downwards, not those above them.
    """

    def __init__(
        self,
        channels: int = 3,
        image_size: Size = 64,
        outputs: int = 1,
        widths: tuple[int, ...] = (32, 64, 96, 128),
        blocks: int = 2,
        middle: tuple[int, ...] | None = None,
        plain: bool = False,
    ):
        super().__init__()
        factor = 2 ** len(widths)
        check_size(image_size, factor, "reference_unet")
        self.embedding = Sinusoid(16, 1, 1000)
        self.stem = nn.Conv2d(channels, 32, 1)
        skips, x = [], 64
        self.down = nn.ModuleList()
        for width in widths:
            level = nn.ModuleList()
            for _ in range(blocks):
                level.append(ResidualBlock(x, width, plain))
                skips.append(x := width)
            self.down.append(level)
        self.middle = nn.Sequential()
        for width in middle or (2 * x, x):
            self.middle.append(ResidualBlock(x, width, plain))
            x = width
        self.up = nn.ModuleList()
        for width in reversed(widths) if plain else (*reversed(widths[:-1]), widths[0]):
            level = nn.ModuleList()
            for _ in range(blocks):
                level.append(ResidualBlock(x + skips.pop(), width, plain))
                x = width
            self.up.append(level)
        self.out = nn.Conv2d(x, channels * outputs, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1]; returns (B, C * outputs, H, W)."""
        weight = self.middle[0].conv1.weight  # module.to(memory_format=...) decides for the images too
        channels_last = weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = self.stem(noisy.contiguous(memory_format=layout))
        spread = self.embedding(level).to(x.dtype)[:, :, None, None].expand(-1, -1, *noisy.shape[2:])
        x = torch.cat([x, spread.contiguous(memory_format=layout)], dim=1)
        skips = []
        for blocks in self.down:
            for block in blocks:
                skips.append(x := block(x))
            x = F.avg_pool2d(x, 2)
        x = self.middle(x)
        for blocks in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            if x.requires_grad:  # concatenation gives back a slice, of which the layout that is fast here is not noticed
                x.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], dim=1))
        return self.out(x)
