"""The U-Nets of DDPM, improved DDPM and ADM: one family, for each took the former's and changed some of its blocks."""

from functools import partial
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.attention import SelfAttention
from diffusion_lab.networks.embeddings import ClassEmbedding, condition_of, thousand_steps
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import zeroed
from diffusion_lab.sizes import Size, sides


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the condition is added between them or, with `scale_shift`, scales and shifts.

    `resample` halves or doubles the resolution of both branches, before any convolution. Starts as its skip connection.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        condition: int,
        scale_shift: bool,
        dropout: float,
        resample: nn.Module | None = None,
    ):
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample or nn.Identity()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.condition = nn.Linear(condition, 2 * width if scale_shift else width)
        self.norm2 = group_norm(width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.residual = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(self.resample(F.silu(self.norm1(x))))
        condition = self.condition(condition)[:, :, None, None]
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + condition)
        h = self.conv2(self.dropout(F.silu(h)))
        return self.residual(self.resample(x)) + h


class Halving(nn.Conv2d):
    """A convolution of stride 2, in a residual block's place: it is handed the condition too, and has no use for it."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))  # on these sides alone, as TensorFlow does for DDPM


class Doubling(nn.Conv2d):
    """Each pixel four times, then a convolution; Halving's counterpart."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class Attention(nn.Module):
    """Self-attention over the pixels, added to the input; starts as the identity.

    Raises:
        UserError: `channels` do not divide into heads.
    """

    def __init__(self, channels: int, heads: int, head_channels: int):
        super().__init__()
        if head_channels and channels % head_channels:
            raise UserError(f"network.head_channels={head_channels} does not divide a width of {channels}")
        self.norm = group_norm(channels)
        self.attention = SelfAttention(channels, channels // head_channels if head_channels else heads)
        zeroed(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class Block(nn.Module):
    """A residual block and, where given, attention."""

    def __init__(self, residual: ResidualBlock, attention: Attention | None):
        super().__init__()
        self.residual = residual
        self.attention = attention or nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.attention(self.residual(x, condition))


class ADMUNet(nn.Module):
    """Wide residual blocks with group normalisation, attention at low resolution, and a skip from each block to one above.

    The default settings are DDPM's for CIFAR-10 (Ho et al. 2020, arXiv:2006.11239): 35,746,307 parameters at 3 channels.
    Improved DDPM (Nichol and Dhariwal 2021, arXiv:2102.09672) brought `scale_shift` and `heads`; ADM (Dhariwal and
    Nichol 2021, arXiv:2105.05233) `head_channels` and `residual_resampling`.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by 2 ** (len(multipliers) - 1).
        num_classes: of the labels; 0 for a network without labels.
        outputs: images put out for each one put in; 2 with a learned variance.
        width: channels that the multipliers are of; the condition has 4 times as many.
        multipliers: channels at each resolution, from fine to coarse, in widths; the resolution halves between them.
        blocks: residual blocks a level on the way down; on the way up there is one more.
        attention: resolutions with attention, in pixels of the shorter side; those at which no level works are passed over,
            and the middle of the network has it always.
        heads: of attention.
        head_channels: of each head, instead of `heads`; 0 for none.
        scale_shift: whether the condition scales and shifts a block's second normalisation, instead of being added.
        residual_resampling: whether resolutions change within residual blocks, instead of by a convolution.
        dropout: probability, within residual blocks.

    Raises:
        UserError: image_size or the heads do not suit the widths.
    """

    def __init__(
        self,
        channels: int,
        image_size: Size,
        num_classes: int = 0,
        outputs: int = 1,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (16,),
        heads: int = 1,
        head_channels: int = 0,
        scale_shift: bool = False,
        residual_resampling: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        factor = 2 ** (len(multipliers) - 1)
        check_size(image_size, factor, "adm_unet")
        residual = partial(ResidualBlock, condition=4 * width, scale_shift=scale_shift, dropout=dropout)
        attend = partial(Attention, heads=heads, head_channels=head_channels)
        levels = [(width * m, min(sides(image_size)) // 2**i in attention) for i, m in enumerate(multipliers)]
        self.level = nn.Sequential(
            thousand_steps(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )
        self.classes = ClassEmbedding(num_classes, 4 * width) if num_classes else None
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        x, skips = width, [width]
        self.down, self.halvings = nn.ModuleList(), nn.ModuleList()
        for i, (y, attends) in enumerate(levels):
            if i:
                self.halvings.append(residual(x, x, resample=nn.AvgPool2d(2)) if residual_resampling else Halving(x))
                skips.append(x)
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[-1].append(Block(residual(x, y), attend(y) if attends else None))
                skips.append(x := y)
        self.middle = nn.ModuleList([Block(residual(x, x), attend(x)), residual(x, x)])
        self.up, self.doublings = nn.ModuleList(), nn.ModuleList()
        for i, (y, attends) in enumerate(reversed(levels)):
            if i:
                up = nn.Upsample(scale_factor=2)
                self.doublings.append(residual(x, x, resample=up) if residual_resampling else Doubling(x))
            self.up.append(nn.ModuleList())
            for _ in range(blocks + 1):
                self.up[-1].append(Block(residual(x + skips.pop(), y), attend(y) if attends else None))
                x = y
        self.norm = group_norm(x)
        self.out = zeroed(nn.Conv2d(x, channels * outputs, 3, padding=1))

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1] or near it, label (B,) int64 with -1 for none, or None.

        Returns (B, C * outputs, H, W), the first image first.
        """
        condition = condition_of(self.level, self.classes, level, label)
        skips = [x := self.stem(noisy)]
        for i, blocks in enumerate(self.down):
            if i:
                skips.append(x := self.halvings[i - 1](x, condition))
            for block in blocks:
                skips.append(x := block(x, condition))
        for block in self.middle:
            x = block(x, condition)
        for i, blocks in enumerate(self.up):
            x = self.doublings[i - 1](x, condition) if i else x
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], dim=1), condition)
        return self.out(F.silu(self.norm(x)))


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, or fewer, so that they divide the channels and have at least 4 each.

    A group of one channel would lose all that is the same in every pixel, and with it a condition that was added.
    """
    groups = gcd(32, channels)
    while groups > 1 and channels < 4 * groups:
        groups //= 2
    return nn.GroupNorm(groups, channels)
