"""The LightningModule of a denoiser: one training step, and its errors on held-out images."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.metrics.errors import denoising_errors
from diffusion_lab.training.augmentation import nothing
from diffusion_lab.training.module import Training


class DenoiserTraining(Training):
    """Trains a denoiser from noisy images.

    Args:
        model: the denoiser.
        criterion: (denoiser, image, label, noise, time, progress) to a scalar, see `diffusion_lab.training.criteria`.
        times: (count, device, schedule) to diffusion times (count,).
        label_dropout: probability of hiding an image's label, so that the network also works without one.
        augmentation: what is done to the images, see `diffusion_lab.training.augmentation`.
        settings: of any Training.
    """

    def __init__(
        self,
        model: NetworkDenoiser,
        criterion: Callable,
        times: Callable,
        label_dropout: float,
        augmentation: Callable = nothing,
        **settings,
    ):
        super().__init__(model, **settings)
        self.criterion = criterion
        self.times = times
        self.label_dropout = label_dropout
        self.augmentation = augmentation

    def draw(self, batch: Batch) -> tuple[Tensor, ...]:
        count = len(batch.pixels)
        hidden = self.shared(count, partial(torch.rand, device=self.device)) < self.label_dropout
        image, augmented = self.augmentation(self.model.space.encode(batch.pixels))
        noise = self.noise_like(image)
        time = self.shared(count, partial(self.times, device=self.device, schedule=self.model.schedule))
        progress = torch.full((), self.progress, device=self.device)  # no number: a compiled objective would be made anew
        drawn = image, torch.where(hidden, -1, batch.label), noise, time, progress
        return drawn if augmented is None else (*drawn, augmented)

    def objective(
        self,
        image: Tensor,
        label: Tensor,
        noise: Tensor,
        time: Tensor,
        progress: Tensor | float = 0.0,
        augmented: Tensor | None = None,
    ) -> Tensor:
        shown = {} if augmented is None else {"augmented": augmented}  # which a criterion need not know of
        return self.criterion(self.model, image, label, noise, time, progress, **shown)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        errors = denoising_errors(self.model, *batch)
        for name, values in errors._asdict().items():
            self.log(f"val/{name}_loss", values.mean(), batch_size=len(values), sync_dist=True)
