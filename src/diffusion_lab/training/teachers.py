"""Where a denoiser's training target comes from: callables of (truth, noisy, time, label) to a Prediction.

truth holds the image and the noise that `noisy` (B, C, H, W) was made of at `time` (B,); label (B,) are rows of conditions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.denoiser import Denoiser, DenoiserAround, Prediction
from diffusion_lab.errors import UserError
from diffusion_lab.process.targets import Noise
from diffusion_lab.sampling.guidance import ClassifierFreeGuidance


class Data:
    """The data themselves teach."""

    def check(self, student: Denoiser) -> None:
        """They teach any denoiser."""

    def __call__(self, truth: Prediction, noisy: Tensor, time: Tensor, label: Tensor) -> Prediction:
        return truth


class Teacher:
    """Another denoiser's estimates teach (Hinton et al. 2015, arXiv:1503.02531), of the same noisy images.

    It is no module, and its copies are itself: so it is neither trained nor averaged nor saved with the student.
    """

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser.eval().requires_grad_(False)

    def check(self, student: Denoiser) -> None:
        """Raise UserError where the student sees other images, other noise, or other labels."""
        if not student.sees_as(self.denoiser):
            raise UserError(
                "teacher.checkpoint was trained with another schedule or on other pixels: train both with the same data, "
                "space and schedule"
            )
        theirs, ours = len(self.denoiser.conditions), len(student.conditions)
        if theirs and ours > theirs:
            raise UserError(f"teacher.checkpoint knows {theirs} labels, and the student is to know {ours}")

    def __call__(
        self, truth: Prediction, noisy: Tensor, time: Tensor, label: Tensor, scale: Tensor | None = None
    ) -> Prediction:
        """Its estimates; with `scale` (B,), guided so far towards the labels."""
        self.denoiser.to(noisy.device)
        guided = self.denoiser if scale is None else ClassifierFreeGuidance(self.denoiser, scale)
        with torch.no_grad():
            image, noise, _ = guided(noisy, time, label)
        return Prediction(image, noise)

    def __deepcopy__(self, memo: dict) -> "Teacher":
        return self


class TwoSteps(DenoiserAround):
    """The estimate with which one step of DDIM goes as far as `denoiser` does in two of half its length (Salimans and Ho
    2022, arXiv:2202.00512, algorithm 2). A student of it needs half the calls.

    Args:
        steps: of the student, from pure noise to the image; evenly, as `trailing` has them. It knows these times only.
    """

    def __init__(self, denoiser: Denoiser, steps: int):
        super().__init__(denoiser)
        self.steps = steps

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        half = 0.5 / self.steps
        image, noise, _ = self.denoiser(noisy, time, label)
        signal_rate, noise_rate = self.rates(time - half)
        image, noise, _ = self.denoiser(signal_rate * image + noise_rate * noise, time - half, label)
        to_signal_rate, to_noise_rate = self.rates((time - 2 * half).clamp(min=0))
        is_last = (time < 3 * half).view(-1, 1, 1, 1)  # which ends at the clean image, as a sampler's does
        to_signal_rate, to_noise_rate = torch.where(is_last, 1, to_signal_rate), torch.where(is_last, 0, to_noise_rate)
        reached = to_signal_rate * image + to_noise_rate * noise
        signal_rate, noise_rate = self.rates(time)
        kept = to_noise_rate / noise_rate
        return self.of_image((reached - kept * noisy) / (to_signal_rate - kept * signal_rate), noisy, time)


class TwoStepsTeacher(Teacher):
    """A teacher by `TwoSteps`, of students that predict the image or a velocity."""

    def check(self, student: Denoiser) -> None:
        super().check(student)
        if isinstance(student.target, Noise):
            raise UserError(
                "teacher=two_steps needs target=image or velocity: at pure noise, where the first step begins, a noise "
                "estimate says nothing of the image"
            )


def checkpoint(checkpoint: str, scale: float = 1.0, trusted: Sequence[str] = ()) -> Teacher:
    """The denoiser of a checkpoint file as a teacher.

    Args:
        scale: of guidance towards the labels, which the student then has learned: it is drawn from without.
        trusted: packages whose classes that checkpoint may name.

    Raises:
        UserError: the file is no checkpoint of a denoiser, or of one without labels that is to be guided.
    """
    return Teacher(_guided(checkpoint, scale, trusted))


def two_steps(checkpoint: str, steps: int, scale: float = 1.0, trusted: Sequence[str] = ()) -> Teacher:
    """Two steps of that denoiser at a time, see `TwoSteps`."""
    return TwoStepsTeacher(TwoSteps(_guided(checkpoint, scale, trusted), steps))


def _guided(checkpoint: str, scale: float, trusted: Sequence[str]) -> Denoiser:
    denoiser = load_checkpoint(checkpoint, trusted).model(Denoiser)
    if scale == 1:
        return denoiser
    if not len(denoiser.conditions):
        raise UserError(f"teacher.scale={scale} needs labels, and teacher.checkpoint was trained without")
    return ClassifierFreeGuidance(denoiser, scale)
