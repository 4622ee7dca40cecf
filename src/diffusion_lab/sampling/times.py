"""The times at which a sampler calls the network: functions of (schedule, steps, device) to times (steps,), falling."""

import itertools
import math

import torch
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.process.schedules import log_snr, time_of

MAX_SIGMA = 80.0  # EDM's: an image is as good as gone; some schedules end at thousands


def trailing(schedule: nn.Module, steps: int, device: torch.device) -> Tensor:
    """1, 1 - 1 / steps, ..., 1 / steps: even, and from the very end (Lin et al. 2023, arXiv:2305.08891, table 2)."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64, device=device)[:-1]


def uniform(schedule: nn.Module, steps: int, device: torch.device) -> Tensor:
    """From 1 to 0 evenly, both included: `trailing` with a last call at the clean end. With schedule=edm, EDM's steps."""
    return torch.linspace(1, 0, steps, dtype=torch.float64, device=device)


def quadratic(schedule: nn.Module, steps: int, device: torch.device) -> Tensor:
    """The squares of `trailing`: denser at the clean end (Song et al. 2021, arXiv:2010.02502, appendix D.2)."""
    return trailing(schedule, steps, device) ** 2


def karras(schedule: nn.Module, steps: int, device: torch.device, rho: float = 7.0) -> Tensor:
    """sigma^(1/rho) falls evenly from MAX_SIGMA, or what the schedule has, to the schedule's clean end; sigma = noise_rate /
    signal_rate (Karras et al. 2022, arXiv:2206.00364, eq. 5)."""
    low, high = _ends(schedule, device)
    roots = torch.linspace(1, 0, steps, dtype=torch.float64, device=device)
    root_low, root_high = (-low / 2 / rho).exp(), (-high / 2 / rho).exp()
    return time_of(schedule, -2 * rho * (root_high + (root_low - root_high) * roots).log())


def log_snr_uniform(schedule: nn.Module, steps: int, device: torch.device) -> Tensor:
    """The log-SNR rises evenly, between the same ends (Lu et al. 2022, arXiv:2206.00927, sec. 3.3)."""
    low, high = _ends(schedule, device)
    return time_of(schedule, low + (high - low) * torch.linspace(0, 1, steps, dtype=torch.float64, device=device))


def stated(schedule: nn.Module, steps: int, device: torch.device, values: tuple[float, ...]) -> Tensor:
    """The times themselves.

    Raises:
        UserError: they are not as many as the steps, do not fall, or leave [0, 1].
    """
    values = list(values)
    falls = all(a > b for a, b in itertools.pairwise(values))
    if len(values) != steps or not falls or not all(0 <= value <= 1 for value in values):
        raise UserError(f"sampler.times.values={values} must be sampler.steps={steps} falling times from 1 to 0")
    return torch.tensor(values, dtype=torch.float64, device=device)


def _ends(schedule: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    """The lowest and the highest log-SNR."""
    low, high = log_snr(*schedule(torch.tensor([1.0, 0.0], dtype=torch.float64, device=device))).unbind()
    return low.clamp(min=-2 * math.log(MAX_SIGMA)), high
