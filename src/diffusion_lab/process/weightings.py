"""Weights of the training loss by noise level: functions of the rates (B,) to weights (B,)."""

import torch
from torch import Tensor


def uniform(signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """Every noise level counts the same: the "simple" loss of Ho et al. 2020 (arXiv:2006.11239, eq. 14)."""
    return torch.ones_like(signal_rate)
