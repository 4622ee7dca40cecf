"""A Denoiser estimates the clean image and the noise in a noisy image: all that samplers, metrics and edits know."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """Two estimates (B, C, H, W), tied by noisy = signal_rate * image + noise_rate * noise."""

    image: Tensor
    noise: Tensor


class Denoiser(nn.Module):
    """A network with the schedule and target it was trained for, and the normalisation of its pixels.

    Args:
        network: `network(noisy, level, label)` with noisy (B, C, H, W), level (B,) in [0, 1], label (B,) int64 or None.
        schedule: time (B,) in [0, 1] to (signal_rate, noise_rate), each (B,).
        target: what the network's output means, see `diffusion_lab.process.targets`.
        mean, std: per-channel statistics (C,) of the training images, in pixel values from 0 to 1.
    """

    def __init__(self, network: nn.Module, schedule: nn.Module, target, mean: Tensor, std: Tensor):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.target = target
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise rate of each image, (B, 1, 1, 1)."""
        signal_rate, noise_rate = self.schedule(time)
        return signal_rate.view(-1, 1, 1, 1), noise_rate.view(-1, 1, 1, 1)

    def output(self, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's raw output (B, C, H, W), float32: an estimate of the target."""
        level = self.target.level(signal_rate, noise_rate).flatten()
        return self.network(noisy, level, label).float()

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        """Estimate image and noise from `noisy` (B, C, H, W, normalised space) at `time` (B,) in [0, 1]."""
        signal_rate, noise_rate = self.rates(time)
        output = self.output(noisy, signal_rate, noise_rate, label)
        return Prediction(*self.target.solve(output, noisy, signal_rate, noise_rate))

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, C, H, W) to the model's space: float32, zero mean and unit variance per channel."""
        return (pixels.float() / 255 - self.mean) / self.std

    def to_pixels(self, image: Tensor) -> Tensor:
        """The model's space back to pixel values, float32 clamped to [0, 1]."""
        return (image.float() * self.std + self.mean).clamp(0, 1)
