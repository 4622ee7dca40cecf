"""How a number becomes a vector that a network can use."""

import math

import torch
from torch import Tensor, nn


class Sinusoid(nn.Module):
    """Sines, then cosines, of 2 pi f x at `frequencies` log-spaced values of f from `lowest` to `highest`.

    Maps x (B,) to (B, 2 * frequencies). The position encoding of Vaswani et al. 2017 (arXiv:1706.03762) for a
    continuous number in [0, 1].
    """

    def __init__(self, frequencies: int = 16, lowest: float = 1.0, highest: float = 1000.0):
        super().__init__()
        values = 2 * math.pi * torch.logspace(math.log10(lowest), math.log10(highest), frequencies)
        self.register_buffer("angular", values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        angles = x.float()[:, None] * self.angular
        return torch.cat([angles.sin(), angles.cos()], dim=1)
