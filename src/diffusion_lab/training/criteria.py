"""What a denoiser's training minimises: functions of (denoiser, image, label, noise, time, progress) to a scalar.

image and noise are (B, C, H, W) in the denoiser's space, label (B,) rows of its conditions, time (B,) in [0, 1]; progress, a
scalar in [0, 1), is the share of the steps that are done. With an augmentation that the network is told about, there
is a keyword `augmented` (B, numbers) too.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion_lab.denoiser import NetworkDenoiser, Prediction, ScaledDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.process.losses import pseudo_huber
from diffusion_lab.process.posterior import divergence
from diffusion_lab.process.schedules import fall_of, log_snr, time_of
from diffusion_lab.training.teachers import Teacher


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
        if not _weights(self.weighting, denoiser, times).any():
            raise UserError(
                f"weighting is for each log-SNR, and schedule {type(denoiser.schedule).__name__} has one only: "
                "take another weighting"
            )

    def __call__(
        self,
        denoiser: NetworkDenoiser,
        image: Tensor,
        label: Tensor,
        noise: Tensor,
        time: Tensor,
        progress: Tensor | float = 0.0,
        augmented: Tensor | None = None,
    ) -> Tensor:
        signal_rate, noise_rate = rates = denoiser.rates(time)
        noisy = denoiser.noisy(image, noise, time)
        output, fraction = denoiser.output(noisy, time, label, augmented)
        taught = self.teacher(Prediction(image, noise), noisy, time, label)
        target, gain = denoiser.target.of(taught.image, taught.noise, *rates), denoiser.target.gain(*rates)
        losses = self.loss(output, target).flatten(1).mean(1)
        loss = (losses * _weights(self.weighting, denoiser, time)).mean()
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


class GuidanceDistillation:
    """The output of a denoiser that takes the scale of guidance against a guided teacher's, whose calls are two (Meng et al.
    2023, arXiv:2210.03142, sec. 3.1; scales are drawn evenly, their w is scale - 1).

    Args:
        loss, weighting: of a `Denoising`.
        teacher: a `diffusion_lab.training.teachers.Teacher`.
    """

    def __init__(self, loss: nn.Module, weighting: Callable, teacher: Callable):
        self.loss, self.weighting, self.teacher = loss, weighting, teacher

    def check(self, denoiser: NetworkDenoiser) -> None:
        """Raise UserError where there is no teacher, or no student that takes a scale."""
        if not isinstance(self.teacher, Teacher) or not len(self.teacher.denoiser.conditions):
            raise UserError("criterion=guidance_distillation needs teacher=checkpoint, of a denoiser with labels")
        if not isinstance(denoiser, ScaledDenoiser):
            raise UserError("criterion=guidance_distillation needs task=scaled_denoiser, whose model takes a scale")
        self.teacher.check(denoiser)

    def __call__(
        self,
        denoiser: ScaledDenoiser,
        image: Tensor,
        label: Tensor,
        noise: Tensor,
        time: Tensor,
        progress: Tensor | float = 0.0,
        augmented: Tensor | None = None,
    ) -> Tensor:
        lowest, highest = denoiser.scales
        scale = lowest + (highest - lowest) * torch.rand_like(time)
        noisy = denoiser.noisy(image, noise, time)
        output, _ = denoiser.output(noisy, time, label, augmented, scale)
        taught = self.teacher(Prediction(image, noise), noisy, time, label, scale)
        target = denoiser.target.of(taught.image, taught.noise, *denoiser.rates(time))
        losses = self.loss(output, target).flatten(1).mean(1)
        return (losses * _weights(self.weighting, denoiser, time)).mean()


class Consistency:
    """The image estimates at two times of one way through the noise, made the same: easy consistency tuning (Geng et al.
    2024, arXiv:2406.14548). A denoiser trained so jumps from any noise to the image, see `consistency` in
    `diffusion_lab.sampling.samplers`.

    With sigma = noise_rate / signal_rate, which is the paper's time, the pair of a sigma is

        earlier sigma = sigma * (1 - n / q ** stage), n = 1 + k / (1 + exp(b * sigma)), stages counted from 1:

    far apart at first, where this is ordinary denoising, and nearer in every stage. Below the schedule's clean end the image
    itself is the estimate. The estimate at the earlier time is taken without gradient, and with the same dropout. Both noisy
    images hold the noise that the teacher says: the data's own (consistency training), or that of another denoiser, whose
    probability flow is then distilled, guided or not.

    Args:
        teacher: see `diffusion_lab.training.teachers`.
        weighting: of the image estimate's loss, see `diffusion_lab.process.weightings`; `edm` is the paper's on ImageNet.
        per_gap: weigh by 1 / (sigma - earlier sigma) too, the paper's choice on CIFAR-10, with weighting `uniform`.
        stages: of equal length; the last ends with the training.
        q, k, b: of the pairs; b for pixels of standard deviation 0.5, as the paper has it.
        c: of the pseudo-Huber loss, a root mean square over an image; 0 makes it the norm, whose gradient never gets small.
        sigma_data: standard deviation of the images in the denoiser's space.
    """

    def __init__(
        self,
        teacher: Callable,
        weighting: Callable,
        per_gap: bool = True,
        stages: int = 8,
        q: float = 2.0,
        k: float = 8.0,
        b: float = 1.0,
        c: float = 0.0,
        sigma_data: float = 1.0,
    ):
        self.teacher, self.weighting, self.per_gap = teacher, weighting, per_gap
        self.stages, self.q, self.k, self.b, self.c, self.sigma_data = stages, q, k, b, c, sigma_data

    def check(self, denoiser: NetworkDenoiser) -> None:
        """Raise UserError where the teacher cannot teach this denoiser, or its schedule has no way through the noise."""
        self.teacher.check(denoiser)
        clean, noisy = denoiser.schedule(torch.tensor([0.0, 1.0], device=denoiser.device))[0]
        if clean == noisy or any(True for _ in denoiser.schedule.parameters()):
            raise UserError("criterion=consistency wants a fixed schedule of more than one noise level")

    def __call__(
        self,
        denoiser: NetworkDenoiser,
        image: Tensor,
        label: Tensor,
        noise: Tensor,
        time: Tensor,
        progress: Tensor | float = 0.0,
        augmented: Tensor | None = None,
    ) -> Tensor:
        signal_rate, noise_rate = denoiser.schedule(time)
        sigma = noise_rate / signal_rate
        earlier_sigma = self.earlier(sigma, progress)
        earlier = time_of(denoiser.schedule, -2 * earlier_sigma.double().log()).to(time.dtype)
        is_clean = earlier == 0
        noisy = denoiser.noisy(image, noise, time)
        taught = self.teacher(Prediction(image, noise), noisy, time, label)
        dropout = _Dropout(denoiser)
        estimate = self._image(denoiser, noisy, time, label, augmented)
        dropout.repeat()
        with torch.no_grad():
            cleaner = denoiser.noisy(taught.image, taught.noise, earlier)
            target = self._image(denoiser, cleaner, earlier, label, augmented)
            target = torch.where(is_clean.view(-1, 1, 1, 1), taught.image, target)
        fall = fall_of(denoiser.schedule, time)
        weights = self.weighting(signal_rate, noise_rate, torch.ones_like(sigma), fall)
        if self.per_gap:
            weights = weights / (sigma - earlier_sigma)
        return (weights * pseudo_huber(estimate - target, self.c * math.sqrt(estimate[0].numel()))).mean()

    @staticmethod
    def _image(denoiser: NetworkDenoiser, noisy: Tensor, time: Tensor, label: Tensor, augmented: Tensor | None) -> Tensor:
        output, _ = denoiser.output(noisy, time, label, augmented)
        return denoiser.target.solve(output, noisy, *denoiser.rates(time))[0]

    def earlier(self, sigma: Tensor, progress: Tensor | float) -> Tensor:
        """The other noise level (B,) of the pairs of `sigma` (B,), 0 at least."""
        stage = math.floor(progress * self.stages) if isinstance(progress, float) else (progress * self.stages).floor()
        factor = 1 + self.k * torch.sigmoid(-self.b * sigma / (2 * self.sigma_data))
        return sigma * (1 - factor / self.q ** (stage + 1)).clamp(min=0)


class _Dropout:
    """What a denoiser drops out from here on, to be dropped again."""

    def __init__(self, denoiser: nn.Module):
        self.device = denoiser.device
        drops = denoiser.training and any(isinstance(module, nn.Dropout) and module.p > 0 for module in denoiser.modules())
        self.state = self._generator.get_rng_state() if drops else None

    @property
    def _generator(self):
        return torch if self.device.type == "cpu" else torch.get_device_module(self.device)

    def repeat(self) -> None:
        if self.state is not None:
            self._generator.set_rng_state(self.state)


def _weights(weighting: Callable, denoiser: NetworkDenoiser, time: Tensor) -> Tensor:
    """Of the losses (B,) of a denoiser's own output."""
    signal_rate, noise_rate = denoiser.schedule(time)
    gain = denoiser.target.gain(*denoiser.rates(time)).flatten()
    return weighting(signal_rate, noise_rate, gain, fall_of(denoiser.schedule, time))
