"""How a number or a class becomes a vector that a network can use."""

import math

import torch
import torch.nn.functional as F
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


class Fourier(nn.Module):
    """Sines, then cosines, of 2 pi f x at random `frequencies` f of deviation `scale`, fixed from the start.

    Maps x (B,) to (B, 2 * frequencies); Tancik et al. 2020 (arXiv:2006.10739).
    """

    def __init__(self, frequencies: int, scale: float = 16.0):
        super().__init__()
        self.register_buffer("angular", 2 * math.pi * scale * torch.randn(frequencies))

    def forward(self, x: Tensor) -> Tensor:
        angles = x.float()[:, None] * self.angular
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ClassEmbedding(nn.Embedding):
    """A learned vector for each class and, in the last row, one for "no label" (Ho and Salimans 2022, arXiv:2207.12598).

    Maps label (B,) int64, below 0 for none, to (B, width). A label of None stands for a batch without any; `like`, any
    tensor (B, ...), says how many those are and where.
    """

    def __init__(self, num_classes: int, width: int):
        super().__init__(num_classes + 1, width)

    def forward(self, label: Tensor | None, like: Tensor) -> Tensor:
        return super().forward(class_rows(label, like, none=self.num_embeddings - 1))


def class_rows(label: Tensor | None, like: Tensor, none: int) -> Tensor:
    """Row (B,) int64 of each label in a table whose row `none` means "no label"; see ClassEmbedding."""
    if label is None:
        return torch.full((len(like),), none, device=like.device)
    return torch.where(label < 0, none, label)


def condition_of(
    levels: nn.Module, classes: ClassEmbedding | None, level: Tensor, label: Tensor | None, more: Tensor | None = None
) -> Tensor:
    """What tells a network's blocks the noise level and the class: the sum of their embeddings, activated, (B, width).

    Args:
        levels: the embedding of the level (B,).
        classes: that of the label (B,), see ClassEmbedding; None for a network without labels.
        more: the embedding (B, width) of what else there is to know.
    """
    condition = levels(level)
    if classes is not None:
        condition = condition + classes(label, level)
    return F.silu(condition if more is None else condition + more)


def thousand_steps(width: int) -> Sinusoid:
    """The papers' embedding of the steps 0 to 1000 (Ho et al. 2020, arXiv:2006.11239), for a level in [0, 1] in their place.

    Maps (B,) to (B, width), width even: sines, then cosines, of angles up to 0.1 ... 1000 radians.
    """
    return Sinusoid(width // 2, 0.1 / (2 * math.pi), 1000 / (2 * math.pi))
