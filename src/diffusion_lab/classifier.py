"""A NoisyClassifier reads the class of a noisy image: for guidance and, trained on clean images, to judge drawn ones."""

from collections.abc import Callable

from torch import Tensor, nn

from diffusion_lab.conditions import Classes
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.process.targets import unit_power
from diffusion_lab.spaces.space import Space


class NoisyClassifier(NoisyModel):
    """A network with the schedule whose noisy images it was trained on.

    Args:
        network: `network(noisy, level)` with noisy (B, C, H, W) and level (B,); it gives logits (B, K).
        schedule, space: of any NoisyModel.
        level: see `diffusion_lab.process.levels`.
        conditions: the K classes.
    """

    made_by = "train.py experiment=noisy_classifier"

    def __init__(self, network: nn.Module, schedule: nn.Module, level: Callable, space: Space, conditions: Classes):
        super().__init__(schedule, space, conditions)
        self.network = network
        self.level = level

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Logits (B, K), float32, of the classes of `noisy` (B, C, H, W, in its space) at `time` (B,) in [0, 1]."""
        signal_rate, noise_rate = self.rates(time)
        level = self.level(time, signal_rate.flatten(), noise_rate.flatten())
        scaled = (unit_power(signal_rate, noise_rate) * noisy).to(noisy.dtype)
        return self.network(scaled, level).float()
