"""How training draws the diffusion times of a batch: functions of (count, device, schedule) to times
(count,) in [0, 1], for that schedule.

All but `uniform` are stratified: one draw in each of `count` equally likely strata, so the batch covers the density evenly.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from diffusion_lab.process.schedules import log_snr

POINTS = 2**17 + 1


def uniform(count: int, device: torch.device, schedule: nn.Module | None = None) -> Tensor:
    """Independent times, t ~ U(0, 1)."""
    return torch.rand(count, device=device)


def stratified(count: int, device: torch.device, schedule: nn.Module | None = None) -> Tensor:
    """One uniform time in each of `count` equal strata, shuffled: the same density, a loss of lower variance.

    Kingma et al. 2021 (Variational diffusion models, arXiv:2107.00630, appendix I.1) draw times this way.
    """
    return (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count


def grid(count: int, device: torch.device, schedule: nn.Module | None = None, steps: int = 8) -> Tensor:
    """1 / steps, 2 / steps, ..., 1, all as likely: where a sampler of even steps calls (arXiv:2202.00512, algorithm 2)."""
    return ((stratified(count, device) * steps).floor() + 1).clamp(max=steps) / steps


def logit_normal(
    count: int, device: torch.device, schedule: nn.Module | None = None, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """logit(t) ~ N(mean, std^2): most at the middle (Esser et al. 2024, arXiv:2403.03206, eq. 19)."""
    return torch.sigmoid(_normal(count, device, mean, std))


def log_normal(count: int, device: torch.device, schedule: nn.Module, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """log(sigma) ~ N(mean, std^2) with sigma = noise_rate / signal_rate, within the schedule's ends (Karras et al. 2022,
    arXiv:2206.00364, table 1).

    Args:
        mean, std: of log(sigma), sigma in units of the normalised space.
    """
    wanted = -2 * _normal(count, device, mean, std).double()
    known, times = _table(schedule, device)
    after = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    low, high = known[after - 1], known[after]
    share = ((wanted - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return torch.lerp(times[after - 1], times[after], share).float()


@lru_cache(maxsize=4)  # to look a step's times up takes ten kernels, to bisect for them five hundred
def _table(schedule: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rising log-SNRs (N,) and the times at which `schedule` has them, float64. Where it has one log-SNR for a while, as
    discrete steps have, that is the middle: at its ends rounding would choose the step."""
    times = torch.linspace(0, 1, POINTS, dtype=torch.float64, device=device)
    known, of = log_snr(*schedule(times)).unique(return_inverse=True)
    totals, counts = (torch.zeros_like(known).index_add_(0, of, each) for each in (times, torch.ones_like(times)))
    return known, totals / counts


def _normal(count: int, device: torch.device, mean: float, std: float) -> Tensor:
    """Stratified draws of a normal density."""
    uniforms = stratified(count, device).clamp(1e-6, 1 - 1e-6)
    return mean + std * torch.special.ndtri(uniforms)
