"""DDPM's way to give a schedule: the variance beta that each of n discrete steps adds.

The functions give betas (n,), float64; `Discrete` is the schedule over them.
"""

import math

import torch
from torch import Tensor

from diffusion_lab.process.schedules import Schedule


class Discrete(Schedule):
    """n steps, alpha_bar_i = product of (1 - beta_j) up to i (Ho et al. 2020, arXiv:2006.11239, eq. 4).

    A time in (i / n, (i + 1) / n] is step i, counted from 0; so is time 0 step 0.

    Args:
        betas: (n,), each in (0, 1).
    """

    def __init__(self, betas: Tensor):
        super().__init__()
        alpha_bar = (1 - betas).cumprod(0)
        self.register_buffer("signal_rate", alpha_bar.sqrt(), persistent=False)
        self.register_buffer("noise_rate", (1 - alpha_bar).sqrt(), persistent=False)

    def step(self, time: Tensor) -> Tensor:
        """The step, from 0, that each time is, int64."""
        # A float32 time such as 0.95 may lie a little above the end of its step.
        return ((len(self.signal_rate) * time - 1e-3).ceil().long() - 1).clamp(min=0)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        step = self.step(time)
        return self.signal_rate[step].to(time.dtype), self.noise_rate[step].to(time.dtype)


def linear(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """DDPM's (Ho et al. 2020, arXiv:2006.11239, sec. 4): beta rises linearly. `start` and `end` suit 1,000 steps."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def quadratic(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """The square root of beta rises linearly ("scaled linear": Rombach et al. 2022, arXiv:2112.10752, appendix)."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2


def cosine(steps: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """alpha_bar is a squared cosine (Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17).

    Args:
        s: offset that keeps the first betas from being too small to matter.
        max_beta: limit of the last ones.
    """
    places = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = ((places + s) / (1 + s) * math.pi / 2).cos() ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)
