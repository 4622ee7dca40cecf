"""Weights of the training loss by noise level: functions of (signal_rate, noise_rate, gain, fall) to weights, all (B,).

The literature states its weights for the squared error of one estimate or another. Here each is stated for the image
estimate and carried over to whatever the network predicts: an error of the output shows in the image `gain` times (see
`targets.py`), so its square counts gain ** 2 times. With that, a weighting means the same for every target
under a squared loss; under another, such as mae, an error `gain` times as large does not cost gain ** 2 times as much.

It also states them for times as training draws them, or for log-SNRs: a weight for each log-SNR counts `fall` times, how
fast the log-SNR falls with time (Kingma and Gao 2023, arXiv:2303.00848, eq. 5). All but `sigmoid` are stated for times; with
that one, a schedule makes no difference to what is minimised.
"""

import torch
from torch import Tensor

from diffusion_lab.process.schedules import log_snr


def uniform(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor) -> Tensor:
    """Every noise level counts the same in the network's own output: the "simple" loss (arXiv:2006.11239, eq. 14)."""
    return torch.ones_like(gain)


def snr(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor) -> Tensor:
    """SNR on the image, so 1 on the noise, whatever the target (Salimans and Ho 2022, arXiv:2202.00512, sec. 4)."""
    return (signal_rate / noise_rate * gain) ** 2


def min_snr(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor, gamma: float = 5.0) -> Tensor:
    """min(SNR, gamma) on the image (Hang et al. 2023, arXiv:2303.09556, eq. 8): nearly clean images count no more."""
    return (signal_rate / noise_rate).square().clamp(max=gamma) * gain**2


def truncated_snr(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor) -> Tensor:
    """max(SNR, 1) on the image (Salimans and Ho 2022, arXiv:2202.00512, sec. 4): pure noise counts as well."""
    return (signal_rate / noise_rate).square().clamp(min=1) * gain**2


def p2(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor, k: float = 1.0, gamma: float = 1.0) -> Tensor:
    """1 / (k + SNR) ** gamma on the noise (Choi et al. 2022, arXiv:2204.00227, eq. 8): content before fine detail."""
    ratio = (signal_rate / noise_rate) ** 2
    return ratio / (k + ratio) ** gamma * gain**2


def edm(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor, sigma_data: float = 1.0) -> Tensor:
    """(sigma ** 2 + sigma_data ** 2) / (sigma sigma_data) ** 2 on the image (Karras et al. 2022, arXiv:2206.00364, table 1):
    1 on the output of EDM's preconditioning and, with sigma_data 1, on the velocity."""
    sigma = noise_rate / signal_rate
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2 * gain**2


def sigmoid(signal_rate: Tensor, noise_rate: Tensor, gain: Tensor, fall: Tensor, bias: float = 2.0) -> Tensor:
    """sigmoid(bias - log-SNR) on the noise, for each log-SNR (Kingma and Gao 2023, arXiv:2303.00848, eq. 5 and sec. 5.2):
    falls smoothly, whatever the schedule."""
    level = log_snr(signal_rate, noise_rate)
    return torch.sigmoid(bias - level) * fall * level.exp() * gain**2
