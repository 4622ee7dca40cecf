"""How training draws the diffusion times of a batch: functions of (count, device) to times (count,) in [0, 1)."""

import torch
from torch import Tensor


def uniform(count: int, device: torch.device) -> Tensor:
    """Independent times, t ~ U(0, 1)."""
    return torch.rand(count, device=device)


def stratified(count: int, device: torch.device) -> Tensor:
    """One uniform time in each of `count` equal strata, shuffled: the same density, a loss of lower variance.

    Kingma et al. 2021 (Variational diffusion models, arXiv:2107.00630, appendix I.1) draw times this way.
    """
    return (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count
