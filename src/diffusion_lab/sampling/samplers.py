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
    eta: float = 0.0,
    fresh_noise: Callable[[int], Tensor] | None = None,
    callback: Callable[[int, Tensor, Prediction], None] | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16): deterministic with eta = 0, ancestral DDPM with eta = 1.

    Each step moves to the next time with the two estimates, x' = signal_rate' * image + direction * noise + sigma * fresh,
    where direction ** 2 + sigma ** 2 = noise_rate' ** 2. Times are evenly spaced, `steps` of them, from 1 down to
    1 / steps; the last step's image estimate is the result.

    Args:
        noise: starting point (B, C, H, W), standard normal.
        label: classes (B,) or None.
        steps: network calls, at least 1.
        eta: share of fresh noise, in [0, 1]. It lets later steps correct earlier ones, at the price of more steps.
        fresh_noise: step to standard normal noise like `noise`; by default from torch's global generator.
        callback: called after each network call with (step, noisy, prediction).

    Returns:
        Images (B, C, H, W) in the denoiser's normalised space.
    """
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    rates = [denoiser.rates(time.expand(1)) for time in times]
    noisy = noise
    for step in range(steps):
        prediction = denoiser(noisy, times[step].expand(len(noise)), label)
        if callback:
            callback(step, noisy, prediction)
        (signal_rate, noise_rate), (next_signal_rate, next_noise_rate) = rates[step], rates[step + 1]
        noisy = next_signal_rate * prediction.image + next_noise_rate * prediction.noise
        if eta and step < steps - 1:
            ratio = (signal_rate / next_signal_rate) ** 2
            sigma = eta * next_noise_rate / noise_rate * (1 - ratio).clamp(min=0).sqrt()
            direction = (next_noise_rate**2 - sigma**2).clamp(min=0).sqrt()  # rounding may pass 0
            fresh = fresh_noise(step) if fresh_noise else torch.randn_like(noise)
            noisy = noisy + (direction - next_noise_rate) * prediction.noise + sigma * fresh
    return prediction.image
