"""The number by which the network is told how noisy its input is: functions of (time, signal_rate, noise_rate), all (B,),
to (B,), in [0, 1] or near it."""

from torch import Tensor

from diffusion_lab.process import schedules


def time(time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """Diffusion time itself (t / T; Ho et al. 2020, arXiv:2006.11239)."""
    return time


def step(time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """The step of DDPM's thousand that a time is, counted from 0, in thousandths: what pretrained networks were told."""
    return (time - 1e-3).clamp(min=0)


def noise_power(time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """The noise's share of the variance: noise_rate ** 2 where variance is preserved. The reference system's, for noise."""
    return noise_rate**2 / (signal_rate**2 + noise_rate**2)


def signal_power(time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """The image's share of the variance: signal_rate ** 2 where that is preserved. The reference system's, for images."""
    return signal_rate**2 / (signal_rate**2 + noise_rate**2)


def log_snr(time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """The log-SNR from 15 down to -15, as 0 to 1 (after Kingma et al. 2021, arXiv:2107.00630), for any schedule."""
    return 0.5 - schedules.log_snr(signal_rate, noise_rate) / 30


def log_sigma(time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """EDM's c_noise, log(sigma) / 4 (Karras et al. 2022, arXiv:2206.00364, table 1): about -1.6 to 1.1."""
    return schedules.log_snr(signal_rate, noise_rate) / -8
