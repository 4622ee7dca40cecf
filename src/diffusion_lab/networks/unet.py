"""The default network: a small U-Net that sees the noise level and the class in every block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.networks.embeddings import ClassEmbedding, Sinusoid, condition_of
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.sizes import Size


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (B, C, H, W); in channels_last memory, one pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the condition scales and shifts the second's input (Dhariwal and Nichol 2021,
    arXiv:2105.05233, sec. 3: adaptive normalisation). Starts as its skip connection."""

    def __init__(self, channels: int, width: int, condition: int):
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.scale_and_shift = nn.Linear(condition, 2 * width)
        self.norm2 = ChannelNorm(width)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.residual = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.residual(x) + h


class Attention(nn.Module):
    """Self-attention over the pixels, added to the input.

    Written as two matrix products: at a few hundred pixels that trains faster on a CPU than the fused kernel.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        q, k, v = self.qkv(tokens).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5).softmax(-1)
        mixed = self.out((weights @ v).transpose(1, 2).reshape(b, h * w, c))
        return x + mixed.view(b, h, w, c).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block and, with `heads` above 0, attention."""

    def __init__(self, channels: int, width: int, condition: int, heads: int):
        super().__init__()
        self.residual = ResidualBlock(channels, width, condition)
        self.attention = Attention(width, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.attention(self.residual(x, condition))


class UNet(nn.Module):
    """A U-Net whose stem packs `patch` x `patch` pixels into channels, so that no work is done at full resolution.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by patch * 2 ** (len(widths) - 1).
        num_classes: of the labels; 0 for a network without labels.
        outputs: images put out for each one put in; 2 with a learned variance.
        widths: channels at each resolution, from fine to coarse.
        blocks: residual blocks a level, on the way down and on the way up.
        heads: attention heads at each resolution, 0 for none.
        patch: side of the stem's space-to-depth patches, in pixels.
        condition: width of the vector that carries noise level and class.
        highest_frequency: of the noise level's sinusoids, in periods over the unit interval.
        augmented: how many numbers it is shown about what was done to a training image, see
            `diffusion_lab.training.augmentation`; 0 for a network that is shown none.
    """

    def __init__(
        self,
        channels: int,
        image_size: Size,
        num_classes: int = 0,
        outputs: int = 1,
        widths: tuple[int, ...] = (64, 64),
        blocks: int = 1,
        heads: tuple[int, ...] = (0, 2),
        patch: int = 2,
        condition: int = 256,
        highest_frequency: float = 100.0,
        augmented: int = 0,
    ):
        super().__init__()
        factor = patch * 2 ** (len(widths) - 1)
        check_size(image_size, factor, "unet")
        self.patch = patch
        self.level = nn.Sequential(
            Sinusoid(16, 1.0, highest_frequency), nn.Linear(32, condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.classes = ClassEmbedding(num_classes, condition) if num_classes else None
        self.augmented = nn.Linear(augmented, condition, bias=False) if augmented else None
        self.stem = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        x, skips = widths[0], []
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width, level_heads in zip(widths, heads, strict=True):
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[-1].append(Block(x, width, condition, level_heads))
                skips.append(x := width)
        for _ in range(2):
            self.middle.append(Block(x, x, condition, heads[-1]))
        for width, level_heads in reversed(list(zip(widths, heads, strict=True))):
            self.up.append(nn.ModuleList())
            for _ in range(blocks):
                self.up[-1].append(Block(x + skips.pop(), width, condition, level_heads))
                x = width
        self.norm = ChannelNorm(x)
        self.out = zeroed(nn.Conv2d(x, channels * outputs * patch**2, 3, padding=1))

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None, augmented: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1], label (B,) int64 with -1 for none, or None.

        augmented (B, numbers) says what was done to the image under the noise; None, or zeros: nothing.
        Returns (B, C * outputs, H, W), the first image first.
        """
        told = None if self.augmented is None or augmented is None else self.augmented(augmented)
        condition = condition_of(self.level, self.classes, level, label, told)
        x = F.pixel_unshuffle(noisy, self.patch).contiguous(memory_format=torch.channels_last)
        x, skips = self.stem(x), []
        for i, blocks in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if i else x
            for block in blocks:
                skips.append(x := block(x, condition))
        for block in self.middle:
            x = block(x, condition)
        for i, blocks in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if i else x
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], dim=1), condition)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.patch)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all parameters zero, so that a residual branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
