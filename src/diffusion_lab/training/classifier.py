"""The LightningModule of a NoisyClassifier: one training step, and how well it reads held-out images."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.images import Batch
from diffusion_lab.metrics.classification import reading
from diffusion_lab.training.module import Training


class ClassifierTraining(Training):
    """Trains a classifier to read noisy images, by cross-entropy. Images without a label count nowhere.

    Args:
        model: the classifier.
        times: (count, device, schedule) to diffusion times (count,).
        settings: of any Training.
    """

    def __init__(self, model: NoisyClassifier, times: Callable, **settings):
        super().__init__(model, **settings)
        self.times = times

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image = self.model.space.encode(batch.pixels)
        times = partial(self.times, device=self.device, schedule=self.model.schedule)
        return image, batch.label, self.noise_like(image), self.shared(len(image), times)

    def objective(self, image: Tensor, label: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        logits = self.model(self.model.noisy(image, noise, time), time)
        total = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
        return total / (label >= 0).sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for name, values in reading(self.model, batch)._asdict().items():
            count = len(values)
            self.log(f"val/{name}", values.sum() / max(1, count), batch_size=count, sync_dist=True)
