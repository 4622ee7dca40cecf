"""Where a denoiser's training target comes from: callables of (truth, noisy, time, label) to a Prediction.

truth holds the image and the noise that `noisy` (B, C, H, W) was made of at `time` (B,); label (B,) are rows of conditions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.denoiser import Denoiser, Prediction
from diffusion_lab.errors import UserError


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
        """Raise UserError where the student sees other images, or other noise."""
        if not student.sees_as(self.denoiser):
            raise UserError(
                "teacher.checkpoint was trained with another schedule or on other pixels: train both with the same data, "
                "space and schedule"
            )

    def __call__(self, truth: Prediction, noisy: Tensor, time: Tensor, label: Tensor) -> Prediction:
        self.denoiser.to(noisy.device)
        with torch.no_grad():
            image, noise, _ = self.denoiser(noisy, time, label)
        return Prediction(image, noise)

    def __deepcopy__(self, memo: dict) -> "Teacher":
        return self


def checkpoint(checkpoint: str, trusted: Sequence[str] = ()) -> Teacher:
    """The denoiser of a checkpoint file as a teacher.

    Args:
        trusted: packages whose classes that checkpoint may name.

    Raises:
        UserError: the file is no checkpoint of a denoiser.
    """
    return Teacher(load_checkpoint(checkpoint, trusted).model(Denoiser))
