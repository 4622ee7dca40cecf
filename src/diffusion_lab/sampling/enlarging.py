"""Large images drawn from small ones, by a denoiser that is shown those (Ho et al. 2021, arXiv:2106.15282)."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.denoiser import Denoiser, DenoiserAround, NetworkDenoiser
from diffusion_lab.process.schedules import Schedule
from diffusion_lab.sampling.constraints import Hybrid
from diffusion_lab.sampling.draw import Sampler
from diffusion_lab.sampling.guidance import ClassifierFreeGuidance

OWN = 2_000_000  # the first of the drawings of an image's noise that enlarging it takes


class Enlarger(NetworkDenoiser):
    """A denoiser of large images whose network also takes a small one, enlarged and a little noisy (conditioning
    augmentation: Saharia et al. 2022, arXiv:2205.11487, sec. 2.4).

    Args:
        parts: of a NetworkDenoiser, whose network takes what lies in its `beside`, see `show`.
        augmentation: the noise of the small images: of `noise_level`, a step of it.
    """

    def __init__(self, *parts, augmentation: Schedule, noise_level: int = 250, **named):
        super().__init__(*parts, **named)
        self.augmentation, self.noise_level = augmentation, noise_level

    def show(self, small: Tensor, noise: Tensor, around: Denoiser | None = None) -> None:
        """Let the network see these small images from now on.

        Args:
            small: (B, C, h, w), as `space` has them.
            noise: standard normal (B, C, H, W).
            around: the denoiser that is drawn from, where it shows this one several images for each.
        """
        enlarged = F.interpolate(small, self.shape[1:], mode="bilinear", align_corners=True)
        count = len(self.augmentation.signal_rate)
        time = torch.full((1,), (self.noise_level + 1) / count, dtype=torch.float64, device=small.device)
        signal_rate, noise_rate = (rate.to(small.dtype) for rate in self.augmentation(time))
        shown = (around or self).shown(signal_rate * enlarged + noise_rate * noise)
        self.network.beside = {"small": shown, "told": torch.full((1,), self.noise_level, device=small.device)}


class Cascade:
    """A sampler that draws small images from the denoiser that it is given, and enlarges them.

    What is around that denoiser, guidance, an anagram or a hybrid, is around the enlarger then.

    Args:
        sampler: of both.
        enlarger: on the device.
        way: what the sampler is asked for when it enlarges: `steps`, `threshold`.
        scale: of guidance meanwhile.
    """

    def __init__(self, sampler: Sampler, enlarger: Enlarger, way: dict, scale: float):
        self.sampler, self.enlarger, self.way, self.scale = sampler, enlarger, way, scale

    def __call__(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        label: Tensor | None = None,
        fresh_noise: Callable[[int], Tensor] | None = None,
        callback: Callable | None = None,
        **way,
    ) -> Tensor:
        """Arguments and result are those of any sampler, but for the images, which are large; `callback` sees the small."""
        fresh_noise = fresh_noise or (lambda call: torch.randn_like(noise))
        small = self.sampler(denoiser, noise, label, fresh_noise=fresh_noise, callback=callback, **way)
        factor = self.enlarger.shape[-1] // small.shape[-1]

        def large_noise(drawing: int) -> Tensor:
            """Many small noises, interleaved."""
            first = OWN + factor**2 * drawing
            parts = torch.stack([fresh_noise(first + part) for part in range(factor**2)], 2)
            return F.pixel_shuffle(parts.flatten(1, 2), factor)

        around = self._around(denoiser, factor)
        self.enlarger.show(small.clamp(-1, 1), large_noise(0), around)
        way |= self.way
        return self.sampler(around, large_noise(1), label, fresh_noise=lambda call: large_noise(call + 2), **way)

    def _around(self, denoiser: Denoiser, factor: int) -> Denoiser:
        """What is around the denoiser, around the enlarger."""
        if not isinstance(denoiser, DenoiserAround):
            return self.enlarger
        other = copy.copy(denoiser)
        other._modules = dict(denoiser._modules)  # which a copy shares
        other.denoiser = self._around(denoiser.denoiser, factor)
        other.schedule, other.space = other.denoiser.schedule, other.denoiser.space
        if isinstance(other, ClassifierFreeGuidance):
            other.scale = self.scale
        if isinstance(other, Hybrid):
            other.sigma = factor * denoiser.sigma
        return other
