"""DDPM++ and NCSN++: the U-Nets of Song et al. 2021 (arXiv:2011.13456, appendix H), in EDM's sizes."""

from functools import partial
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.adm_unet import group_norm
from diffusion_lab.networks.attention import SelfAttention
from diffusion_lab.networks.embeddings import ClassEmbedding, Fourier, Sinusoid
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import zeroed
from diffusion_lab.sizes import Size, sides


class Resampling(nn.Module):
    """Halves or doubles the resolution of (B, C, H, W), H and W even, with a filter (Zhang 2019, arXiv:1904.11486).

    Args:
        taps: of the filter in one dimension, an even number of them, from 2 on: [1, 1] averages, or repeats, pixels.
        up: whether it doubles.
    """

    def __init__(self, taps: tuple[float, ...], up: bool = False):
        super().__init__()
        self.up = up
        taps = torch.tensor(taps, dtype=torch.float32)
        kernel = torch.outer(taps, taps) / taps.sum() ** 2
        self.register_buffer("kernel", kernel * 4 if up else kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        resample = F.conv_transpose2d if self.up else F.conv2d
        return resample(x, kernel, stride=2, padding=(len(self.kernel) - 2) // 2, groups=x.shape[1])


class ResidualBlock(nn.Module):
    """BigGAN's: two 3x3 convolutions, the condition added between them; sums are divided by sqrt(2), so as to keep variance.

    `resampling` changes the resolution of both branches, before any convolution; the input then passes a 1x1 convolution
    even where widths match. With `attends`, self-attention of one head follows, summed in the same way.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        condition: int,
        dropout: float,
        resampling: nn.Module | None = None,
        attends: bool = False,
    ):
        super().__init__()
        self.resampling = resampling or nn.Identity()
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.condition = nn.Linear(condition, width)
        self.norm2 = _norm(width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.residual = nn.Conv2d(channels, width, 1) if resampling or channels != width else nn.Identity()
        self.norm3 = _norm(width) if attends else None
        self.attention = SelfAttention(width, heads=1) if attends else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(self.resampling(F.silu(self.norm1(x))))
        h = self.norm2(h + self.condition(condition)[:, :, None, None])
        h = self.conv2(self.dropout(F.silu(h)))
        x = (self.residual(self.resampling(x)) + h) / sqrt(2)
        if self.attention is None:
            return x
        tokens = self.norm3(x).flatten(2).transpose(1, 2)
        return (x + self.attention(tokens).transpose(1, 2).unflatten(2, x.shape[2:])) / sqrt(2)


class Pyramid(nn.Module):
    """The image, ever smaller, joins the features of each level (arXiv:2011.13456, "progressive input, residual"):
    smoothed, then a 3x3 convolution of stride 2.

    Args:
        channels: of what the level above was given: the image, and from the second level on features.
        width: of the level that it joins.
        taps: of the smoothing filter, an even number.
    """

    def __init__(self, channels: int, width: int, taps: tuple[float, ...]):
        super().__init__()
        taps = torch.tensor(taps, dtype=torch.float32)
        self.register_buffer("kernel", torch.outer(taps, taps) / taps.sum() ** 2, persistent=False)
        self.conv = nn.Conv2d(channels, width, 3, stride=2)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        kernel = self.kernel.to(image.dtype).expand(image.shape[1], 1, -1, -1)
        smooth = F.conv2d(image, kernel, padding=len(self.kernel) // 2, groups=image.shape[1])  # a pixel larger each way
        return (features + self.conv(smooth)) / sqrt(2)


class ScoreUNet(nn.Module):
    """A U-Net of BigGAN's residual blocks whose sums keep variance; weights start uniform by Glorot's rule.

    The default settings are DDPM++ as in EDM (Karras et al. 2022, arXiv:2206.00364, table 7) on CIFAR-10: 55,733,891
    parameters at 3 channels, without classes. With a `pyramid`, `fourier` and taps of [1, 3, 3, 1] it is NCSN++.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by 2 ** (len(multipliers) - 1).
        num_classes: of the labels; 0 for a network without labels.
        outputs: images put out for each one put in; 2 with a learned variance.
        augmented: how many numbers it is shown about what was done to a training image, see
            `diffusion_lab.training.augmentation`; 0 for a network that is shown none.
        width: channels that the multipliers are of; the condition has 4 times as many.
        multipliers: channels at each resolution, from fine to coarse, in widths; the resolution halves between them.
        blocks: residual blocks a level on the way down; on the way up there is one more.
        attention: resolutions with attention, in pixels of the shorter side: in each block on the way down, in the last one
            on the way up. The middle of the network has it always.
        taps: of the filter by which resolutions change, see `Resampling`.
        pyramid: whether the image joins the features of each level, see `Pyramid`.
        fourier: whether the level is shown as waves of random frequencies, twice as many; else as waves of up to 1 radian
            per unit.
        dropout: probability, within residual blocks.

    Raises:
        UserError: image_size does not suit the levels.
    """

    def __init__(
        self,
        channels: int,
        image_size: Size,
        num_classes: int = 0,
        outputs: int = 1,
        augmented: int = 9,
        width: int = 128,
        multipliers: tuple[int, ...] = (2, 2, 2),
        blocks: int = 4,
        attention: tuple[int, ...] = (16,),
        taps: tuple[float, ...] = (1, 1),
        pyramid: bool = False,
        fourier: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        factor = 2 ** (len(multipliers) - 1)
        check_size(image_size, factor, "score_unet")
        if len(taps) < 2 or len(taps) % 2:
            raise UserError(f"network.taps={list(taps)} must be an even number of taps, such as [1, 1] or [1, 3, 3, 1]")
        residual = partial(ResidualBlock, condition=4 * width, dropout=dropout)
        levels = [(width * m, min(sides(image_size)) // 2**i in attention) for i, m in enumerate(multipliers)]
        waves = Fourier(width) if fourier else Sinusoid(width // 2, 1e-4 / (2 * torch.pi), 1 / (2 * torch.pi))
        shown = 2 * width if fourier else width
        self.waves = waves
        self.classes = ClassEmbedding(num_classes, shown) if num_classes else None
        self.augmented = nn.Linear(augmented, shown, bias=False) if augmented else None
        self.condition = nn.Sequential(nn.Linear(shown, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width), nn.SiLU())
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        x, skips = width, [width]
        self.down, self.pyramid = nn.ModuleList(), nn.ModuleList()
        for i, (y, attends) in enumerate(levels):
            self.down.append(nn.ModuleList())
            if i:
                self.down[-1].append(residual(x, x, resampling=Resampling(taps)))
                if pyramid:
                    self.pyramid.append(Pyramid(channels if i == 1 else levels[i - 2][0], x, taps))
                skips.append(x)
            for _ in range(blocks):
                self.down[-1].append(residual(x, y, attends=attends))
                skips.append(x := y)
        self.middle = nn.ModuleList([residual(x, x, attends=True), residual(x, x)])
        self.up = nn.ModuleList()
        for i, (y, attends) in enumerate(reversed(levels)):
            self.up.append(nn.ModuleList())
            if i:
                self.up[-1].append(residual(x, x, resampling=Resampling(taps, up=True)))
            for block in range(blocks + 1):
                self.up[-1].append(residual(x + skips.pop(), y, attends=attends and block == blocks))
                x = y
        self.norm = _norm(x)
        self.out = nn.Conv2d(x, channels * outputs, 3, padding=1)
        self.apply(_initialise)
        zeroed(self.out)

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None, augmented: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,), label (B,) int64 with -1 for none, or None.

        augmented (B, numbers) says what was done to the image under the noise; None, or zeros: nothing.
        Returns (B, C * outputs, H, W), the first image first.
        """
        shown = self.waves(level)
        if self.classes is not None:
            shown = shown + self.classes(label, level)
        if self.augmented is not None and augmented is not None:
            shown = shown + self.augmented(augmented)
        condition = self.condition(shown)
        image = noisy
        skips = [x := self.stem(noisy)]
        for i, blocks in enumerate(self.down):
            for k, block in enumerate(blocks):
                x = block(x, condition)
                if i and not k and len(self.pyramid):
                    x = image = self.pyramid[i - 1](image, x)
                skips.append(x)
        for block in self.middle:
            x = block(x, condition)
        for i, blocks in enumerate(self.up):
            for k, block in enumerate(blocks):
                x = block(x if i and not k else torch.cat([x, skips.pop()], dim=1), condition)
        return self.out(F.silu(self.norm(x)))


def _norm(channels: int) -> nn.GroupNorm:
    norm = group_norm(channels)
    norm.eps = 1e-6
    return norm


def _initialise(module: nn.Module) -> None:
    """Weights uniform by Glorot's rule, offsets zero; what ends a residual branch starts as nothing."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, ResidualBlock):
        zeroed(module.conv2)
        if module.attention is not None:
            zeroed(module.attention.out)
