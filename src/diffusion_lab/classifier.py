"""A NoisyClassifier reads the class of a noisy image: for guidance and, trained on clean images, to judge drawn ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.process.targets import unit_power


class NoisyClassifier(nn.Module):
    """A network with the schedule whose noisy images it was trained on, and the normalisation of its pixels.

    Args:
        network: `network(noisy, level)` with noisy (B, C, H, W) and level (B,); it gives logits (B, K).
        schedule, level, mean, std: as of a Denoiser.
    """

    def __init__(self, network: nn.Module, schedule: nn.Module, level: Callable, mean: Tensor, std: Tensor):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.level = level
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(-1, 1, 1))

    rates = Denoiser.rates
    normalise = Denoiser.normalise

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Logits (B, K), float32, of the classes of `noisy` (B, C, H, W, normalised space) at `time` (B,) in [0, 1]."""
        signal_rate, noise_rate = self.rates(time)
        level = self.level(time, signal_rate.flatten(), noise_rate.flatten())
        scaled = (unit_power(signal_rate, noise_rate) * noisy).to(noisy.dtype)
        return self.network(scaled, level).float()
