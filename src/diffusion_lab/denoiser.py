"""A Denoiser estimates the clean image and the noise in a noisy image: all that samplers, metrics and edits know."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """Two estimates (B, C, H, W), tied by noisy = signal_rate * image + noise_rate * noise.

    `fraction` (B, C, H, W) is where the variance of a step lies between the smallest (0) and the largest (1), see
    `diffusion_lab.process.posterior`; None where the network does not predict it.
    """

    image: Tensor
    noise: Tensor
    fraction: Tensor | None = None


class Denoiser(nn.Module):
    """A network with the schedule and target it was trained for, and the normalisation of its pixels.

    Args:
        network: `network(noisy, level, label)` with noisy (B, C, H, W), level (B,), label (B,) int64 or None; it gives
            (B, C, H, W), or (B, 2 C, H, W) if it also predicts the variance of a step.
        schedule: time (B,) in [0, 1] to (signal_rate, noise_rate), each (B,).
        target: what the network's output means, see `diffusion_lab.process.targets`.
        level: the number (B,) that tells the network the noise level, see `diffusion_lab.process.levels`.
        mean, std: per channel (C,), what normalisation takes away and divides by, in pixel values from 0 to 1.
    """

    def __init__(self, network: nn.Module, schedule: nn.Module, target, level: Callable, mean: Tensor, std: Tensor):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.target = target
        self.level = level
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise rate of each image, (B, 1, 1, 1)."""
        signal_rate, noise_rate = self.schedule(time)
        return signal_rate.view(-1, 1, 1, 1), noise_rate.view(-1, 1, 1, 1)

    def output(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The network's output for the target (B, C, H, W), as precise as `noisy`, and the variance's fraction or None."""
        signal_rate, noise_rate = self.rates(time)
        level = self.level(time, signal_rate.flatten(), noise_rate.flatten())
        output = self.network(self.target.input_scale(signal_rate, noise_rate) * noisy, level, label).to(noisy.dtype)
        if output.shape[1] == noisy.shape[1]:
            return output, None
        output, fraction = output.chunk(2, dim=1)
        return output, (fraction + 1) / 2

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        """Estimate image and noise from `noisy` (B, C, H, W, normalised space) at `time` (B,) in [0, 1]."""
        output, fraction = self.output(noisy, time, label)
        return Prediction(*self.target.solve(output, noisy, *self.rates(time)), fraction)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, C, H, W) to the model's space: float32, centred and scaled per channel."""
        return (pixels.float() / 255 - self.mean) / self.std

    def to_pixels(self, image: Tensor) -> Tensor:
        """The model's space back to pixel values, float32 clamped to [0, 1]."""
        return (image.float() * self.std + self.mean).clamp(0, 1)


class DenoiserAround(Denoiser):
    """What guidance and edits are made of: a denoiser around `denoiser`, of the same schedule and pixels.

    Its forward calls `self.denoiser` and returns other estimates, tied in the same way.
    """

    def __init__(self, denoiser: Denoiser):
        parts = (denoiser.network, denoiser.schedule, denoiser.target, denoiser.level)
        super().__init__(*parts, denoiser.mean, denoiser.std)
        self.denoiser = denoiser
        self.train(denoiser.training)

    def of_image(self, image: Tensor, noisy: Tensor, time: Tensor, fraction: Tensor | None = None) -> Prediction:
        """The prediction that has this image estimate; the noise is what is left of `noisy`."""
        signal_rate, noise_rate = self.rates(time)
        return Prediction(image, (noisy - signal_rate * image) / noise_rate, fraction)
