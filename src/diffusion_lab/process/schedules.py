"""Noise schedules: diffusion time in [0, 1] to the rates of `noisy = signal_rate * image + noise_rate * noise`.

Every schedule is a module that maps time (B,) to (signal_rate, noise_rate), each (B,), with
signal_rate ** 2 + noise_rate ** 2 = 1 (variance preserving). Time 0 is the clean end, time 1 pure noise.
"""

import math

import torch
from torch import Tensor, nn


class Cosine(nn.Module):
    """The rates are cosine and sine of an angle linear in time (Salimans and Ho 2022, arXiv:2202.00512, sec. 4).

    Args:
        max_signal_rate: signal rate at time 0, in (0, 1].
        min_signal_rate: signal rate at time 1, in [0, 1); above 0, so that the image can be told from the noise.
    """

    def __init__(self, max_signal_rate: float = 0.95, min_signal_rate: float = 0.02):
        super().__init__()
        self.start = math.acos(max_signal_rate)
        self.end = math.acos(min_signal_rate)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.start + (self.end - self.start) * time
        return angle.cos(), angle.sin()


class Linear(nn.Module):
    """DDPM's linear beta (Ho et al. 2020, arXiv:2006.11239) in continuous time (Song et al. 2021, arXiv:2011.13456, eq. 32).

    With beta(s) from `beta_start` to `beta_end`, alpha_bar(s) = exp(-n (beta_start s + (beta_end - beta_start) s^2 / 2)).
    Time runs over that part of s where the signal rate sqrt(alpha_bar) falls from `max_signal_rate` to
    `min_signal_rate`, so it has the ends of the cosine schedule and no clamp in between.

    Args:
        beta_start, beta_end: variance of one of the `steps` discrete steps, at the ends.
        steps: number n of discrete steps that the continuous process stands for.
        max_signal_rate, min_signal_rate: signal rates at time 0 and time 1.
    """

    def __init__(
        self,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        steps: int = 1000,
        max_signal_rate: float = 0.95,
        min_signal_rate: float = 0.02,
    ):
        super().__init__()
        self.constant = steps * beta_start
        self.slope = steps * (beta_end - beta_start)
        self.start = self._inverse(max_signal_rate)
        self.end = self._inverse(min_signal_rate)

    def _inverse(self, signal_rate: float) -> float:
        """The s at which sqrt(alpha_bar(s)) is `signal_rate`: the positive root of a quadratic."""
        drop = -2 * math.log(signal_rate)
        return (math.sqrt(self.constant**2 + 2 * self.slope * drop) - self.constant) / self.slope

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        s = self.start + (self.end - self.start) * time
        log_alpha_bar = -(self.constant * s + self.slope * s**2 / 2)
        return (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()


class LinearClipped(nn.Module):
    """The reference system's linear schedule: 1,000 discrete steps, alpha_bar clamped to [0.02, 0.95].

    The clamp acts on the power alpha_bar, not on the rate: the signal rate never falls below sqrt(0.02) = 0.14,
    so pure noise is never reached; 38 % of all times sit on that clamp and 7 % on the other. Kept to reproduce the
    reference.
    """

    def __init__(
        self,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        steps: int = 1000,
        min_alpha_bar: float = 0.02,
        max_alpha_bar: float = 0.95,
    ):
        super().__init__()
        alpha_bar = (1 - torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)).cumprod(0)
        alpha_bar = alpha_bar.clamp(min_alpha_bar, max_alpha_bar)
        self.register_buffer("alpha_bar", alpha_bar.float(), persistent=False)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alpha_bar[((len(self.alpha_bar) - 1) * time).long()]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
