"""Losses that torch.nn has not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PseudoHuber(nn.Module):
    """sqrt((output - target) ** 2 + c ** 2) - c: a square near 0, an absolute value far off, smooth between (Song and
    Dhariwal 2023, arXiv:2310.14189, sec. 3.3, where it is taken of the whole image).

    Args:
        c: where the one becomes the other, in units of the target.
    """

    def __init__(self, c: float = 0.1):
        super().__init__()
        self.c = c

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.hypot(output - target, torch.full_like(output, self.c)) - self.c


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(|difference| ** 2 + c ** 2) - c of each whole image (B, C, H, W), to (B,) (arXiv:2310.14189, sec. 3.3)."""
    return torch.linalg.vector_norm(F.pad(difference.flatten(1), (0, 1), value=c), dim=1) - c  # smooth at 0 where c is too
