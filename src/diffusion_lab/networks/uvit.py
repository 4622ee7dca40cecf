"""U-ViT: a transformer with a U-Net's long skip connections (Bao et al. 2022, arXiv:2209.12152)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.attention import SelfAttention
from diffusion_lab.networks.embeddings import ClassEmbedding, thousand_steps
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import zeroed
from diffusion_lab.sizes import Size, sides


class Block(nn.Module):
    """Attention, then a perceptron, each behind a layer normalisation and added to the tokens (B, N, width).

    With `joins`, the tokens of an earlier block are concatenated first, and a linear layer makes one of the two.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, joins: bool = False):
        super().__init__()
        self.join = nn.Linear(2 * width, width) if joins else None
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.join is not None:
            tokens = self.join(torch.cat([tokens, skip], dim=2))
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class UViT(nn.Module):
    """Noise level, class and `patch` x `patch` pixels are tokens alike; a 3x3 convolution smooths the patches' seams.

    44 M parameters with the default settings at 3 channels of 32 px: the paper's U-ViT-S/2.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by patch.
        num_classes: of the labels; 0 for a network without labels.
        outputs: images put out for each one put in; 2 with a learned variance.
        patch: side of a token's patch, in pixels; halving it is four times as many tokens.
        width: of a token, even and divisible by heads.
        depth: blocks beside the middle one, an even number: each of the first half is joined to one of the second.
        heads: of attention.
        mlp_ratio: hidden width of the perceptrons, in widths.
    """

    def __init__(
        self,
        channels: int,
        image_size: Size,
        num_classes: int = 0,
        outputs: int = 1,
        patch: int = 2,
        width: int = 512,
        depth: int = 12,
        heads: int = 8,
        mlp_ratio: int = 4,
    ):
        super().__init__()
        check_size(image_size, patch, "uvit")
        if depth % 2:
            raise UserError(f"network.depth={depth} leaves a block without its pair: take an even number")
        self.patch = patch
        self.level = thousand_steps(width)
        self.classes = ClassEmbedding(num_classes, width) if num_classes else None
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.extras = 2 if num_classes else 1
        tokens = math.prod(side // patch for side in sides(image_size))
        self.positions = nn.Parameter(torch.empty(self.extras + tokens, width))
        self.down = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth // 2))
        self.middle = Block(width, heads, mlp_ratio)
        self.up = nn.ModuleList(Block(width, heads, mlp_ratio, joins=True) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, channels * outputs * patch**2)
        self.out = zeroed(nn.Conv2d(channels * outputs, channels * outputs, 3, padding=1))
        self._initialise()

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1] or near it, label (B,) int64 with -1 for none, or None.

        Returns (B, C * outputs, H, W), the first image first.
        """
        patches = self.embed(noisy)
        tokens = torch.cat([self._extra_tokens(level, label), patches.flatten(2).transpose(1, 2)], dim=1) + self.positions
        skips = []
        for block in self.down:
            skips.append(tokens := block(tokens))
        tokens = self.middle(tokens)
        for block in self.up:
            tokens = block(tokens, skips.pop())
        values = self.readout(self.norm(tokens))[:, self.extras :]
        values = values.transpose(1, 2).unflatten(2, patches.shape[2:])
        return self.out(F.pixel_shuffle(values, self.patch))

    def _extra_tokens(self, level: Tensor, label: Tensor | None) -> Tensor:
        """Noise level and class as tokens (B, extras, width)."""
        tokens = [self.level(level)]
        if self.classes is not None:
            tokens.append(self.classes(label, level))
        return torch.stack(tokens, dim=1)

    def _initialise(self) -> None:
        """As the paper's code does, but for the last convolution, which it does not start at zero."""
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
