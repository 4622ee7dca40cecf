"""DiT: a transformer over patches of the image (Peebles and Xie 2022, arXiv:2212.09748)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.attention import SelfAttention
from diffusion_lab.networks.embeddings import ClassEmbedding, condition_of, thousand_steps
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import zeroed
from diffusion_lab.sizes import Size, sides


class Block(nn.Module):
    """Attention, then a perceptron, each between a scale, a shift and a gate that the condition sets: adaLN-zero.

    The gates start at zero, so the block starts as the identity.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU("tanh"), nn.Linear(mlp_ratio * width, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        attention, mlp = self.modulation(condition)[:, None].chunk(2, dim=2)
        shift, scale, gate = attention.chunk(3, dim=2)
        tokens = tokens + gate * self.attention(self.norm(tokens) * (1 + scale) + shift)
        shift, scale, gate = mlp.chunk(3, dim=2)
        return tokens + gate * self.mlp(self.norm(tokens) * (1 + scale) + shift)


class Readout(nn.Module):
    """Tokens (B, N, width) to the values of their patches (B, N, values), scaled and shifted by the condition before."""

    def __init__(self, width: int, values: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, values)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=2)
        return self.linear(self.norm(tokens) * (1 + scale) + shift)


class DiT(nn.Module):
    """Tokens of `patch` x `patch` pixels at fixed positions; noise level and class set the normalisations of each block.

    With 1000 classes and a learned variance on 4 channels of 32 px, patch 2, the paper's have 33 M parameters (S: 12
    blocks of 384 and 6 heads), 130 M (B: 12 of 768, 12 heads), 458 M (L: 24 of 1024, 16 heads) and 675 M (XL: 28 of
    1152, 16 heads).

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by patch.
        num_classes: of the labels; 0 for a network without labels.
        outputs: images put out for each one put in; 2 with a learned variance.
        patch: side of a token's patch, in pixels; halving it is four times as many tokens.
        width: of a token, divisible by 4 and by heads.
        depth: blocks.
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
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: int = 4,
    ):
        super().__init__()
        check_size(image_size, patch, "dit")
        self.patch = patch
        self.level = nn.Sequential(thousand_steps(256), nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.classes = ClassEmbedding(num_classes, width) if num_classes else None
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        grid = [side // patch for side in sides(image_size)]
        self.register_buffer("positions", sincos_positions(grid, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.out = Readout(width, channels * outputs * patch**2)
        self._initialise()

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1] or near it, label (B,) int64 with -1 for none, or None.

        Returns (B, C * outputs, H, W), the first image first.
        """
        condition = condition_of(self.level, self.classes, level, label)
        patches = self.embed(noisy)
        tokens = patches.flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens, condition)
        values = self.out(tokens, condition).transpose(1, 2).unflatten(2, patches.shape[2:])
        return F.pixel_shuffle(values, self.patch)

    def _initialise(self) -> None:
        """As the paper's code does; a block's condition then starts small, and its branches at nothing."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1))  # a linear layer on a patch's values
        nn.init.zeros_(self.embed.bias)
        for layer in (self.level[1], self.level[3], self.classes):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
        for layer in (*(block.modulation for block in self.blocks), self.out.modulation, self.out.linear):
            zeroed(layer)


def sincos_positions(size: Size, width: int) -> Tensor:
    """Fixed positions (cells, width) of a grid's cells, row by row: half the numbers tell the column, half the row.

    Of each half, sines and then cosines of the angles position / 10000 ** (i / n), i = 0 ... n - 1.

    Raises:
        UserError: `width` is not a multiple of 4.
    """
    if width % 4:
        raise UserError(f"network.width={width} leaves no place for positions: take a multiple of 4")
    count = width // 4
    frequencies = 10000 ** -(torch.arange(count, dtype=torch.float64) / count)
    down, across = sides(size)
    angles = torch.arange(max(down, across))[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = line[:across].expand(down, -1, -1), line[:down, None].expand(-1, across, -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1).float()
