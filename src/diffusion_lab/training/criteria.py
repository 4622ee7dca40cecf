"""What a denoiser's training minimises: functions of (denoiser, image, label, noise, time) to a scalar.

image and noise are (B, C, H, W) in the denoiser's space, label (B,) rows of its conditions, time (B,) in [0, 1]. With an
augmentation that the network is told about, there is a keyword `augmented` (B, numbers) too.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion_lab.denoiser import NetworkDenoiser, Prediction
from diffusion_lab.errors import UserError
from diffusion_lab.process.posterior import divergence
from diffusion_lab.process.schedules import fall_of, log_snr


class Denoising:
    """The network's output against what its target makes of an image and a noise: the data's own, or a teacher's estimates.

    Args:
        loss: elementwise, of (output, target), such as torch.nn.MSELoss(reduction="none").
        weighting: signal rates, noise rates, gains and falls (B,) to the weights (B,) of the images' losses, see
            `diffusion_lab.process.weightings`.
        teacher: see `diffusion_lab.training.teachers`.
        vlb_weight: of the variational bound, in bits per dimension, where the network predicts variances: 0.001 in the
            hybrid objective of Nichol and Dhariwal 2021 (arXiv:2102.09672, eq. 16).
        vlb_steps: that the bound is about.
    """

    def __init__(
        self, loss: nn.Module, weighting: Callable, teacher: Callable, vlb_weight: float = 0.0, vlb_steps: int = 1000
    ):
        self.loss = loss
        self.weighting = weighting
        self.teacher = teacher
        self.vlb_weight = vlb_weight
        self.vlb_steps = vlb_steps

    def check(self, denoiser: NetworkDenoiser) -> None:
        """Raise UserError where the teacher cannot teach this denoiser, or no noise level of its schedule has a weight."""
        self.teacher.check(denoiser)
        times = torch.linspace(0.05, 0.95, 19)
        if not self._weights(denoiser, times, *denoiser.rates(times)).any():
            raise UserError(
                f"weighting is for each log-SNR, and schedule {type(denoiser.schedule).__name__} has one only: "
                "take another weighting"
            )

    def _weights(self, denoiser: NetworkDenoiser, time: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        gain = denoiser.target.gain(signal_rate, noise_rate)
        fall = fall_of(denoiser.schedule, time)
        return self.weighting(signal_rate.flatten(), noise_rate.flatten(), gain.flatten(), fall)

    def __call__(
        self,
        denoiser: NetworkDenoiser,
        image: Tensor,
        label: Tensor,
        noise: Tensor,
        time: Tensor,
        augmented: Tensor | None = None,
    ) -> Tensor:
        signal_rate, noise_rate = rates = denoiser.rates(time)
        noisy = denoiser.noisy(image, noise, time)
        output, fraction = denoiser.output(noisy, time, label, augmented)
        taught = self.teacher(Prediction(image, noise), noisy, time, label)
        target, gain = denoiser.target.of(taught.image, taught.noise, *rates), denoiser.target.gain(*rates)
        losses = self.loss(output, target).flatten(1).mean(1)
        loss = (losses * self._weights(denoiser, time, *rates)).mean()
        if fraction is not None:
            loss = loss + self._bound(denoiser, gain * (output - target).detach(), fraction, time)

        def noise_errors() -> Tensor:
            return (signal_rate / noise_rate * gain * (output - target)).square().flatten(1).mean(1)

        return loss + denoiser.schedule.loss(log_snr(*rates).flatten(), noise_errors)

    def _bound(self, denoiser: NetworkDenoiser, error: Tensor, fraction: Tensor, time: Tensor) -> Tensor:
        """The variational bound's steps, from which the variances learn; but the last, where samplers add no noise.

        No gradient flows into the image estimate, whose `error` is given (arXiv:2102.09672, sec. 3.1).
        """
        earlier = (time - 1 / self.vlb_steps).clamp(min=0)
        inner = (time > 1 / self.vlb_steps).float().view(-1, 1, 1, 1)
        nats = divergence(error, denoiser.rates(time), denoiser.rates(earlier), fraction)
        return self.vlb_weight * self.vlb_steps * (inner * nats).mean() / math.log(2)
