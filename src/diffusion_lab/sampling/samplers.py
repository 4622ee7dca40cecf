"""Samplers: functions of (denoiser, noise, label) to images. A step is one network call."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser, Prediction


def ddim(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    callback: Callable[[int, Tensor, Prediction], None] | None = None,
) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12 with sigma = 0).

    Each step moves to the next time with the two estimates: x' = signal_rate' * image + noise_rate' * noise. Times are
    evenly spaced, `steps` of them, from 1 down to 1 / steps; the last step's image estimate is the result.

    Args:
        noise: starting point (B, C, H, W), standard normal.
        label: classes (B,) or None.
        steps: network calls, at least 1.
        callback: called after each network call with (step, noisy, prediction).

    Returns:
        Images (B, C, H, W) in the denoiser's normalised space.
    """
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    noisy = noise
    for step in range(steps):
        prediction = denoiser(noisy, times[step].expand(len(noise)), label)
        if callback:
            callback(step, noisy, prediction)
        signal_rate, noise_rate = denoiser.rates(times[step + 1].expand(len(noise)))
        noisy = signal_rate * prediction.image + noise_rate * prediction.noise
    return prediction.image
