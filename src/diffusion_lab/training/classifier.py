"""The LightningModule of a NoisyClassifier: one training step, and how well it reads held-out images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.images import Batch
from diffusion_lab.metrics.classification import reading
from diffusion_lab.training.module import Training


class ClassifierTraining(Training):
    """Trains `classifier` to read noisy images, by cross-entropy. Images without a label count nowhere.

    Args:
        classifier: the network with its schedule and normalisation.
        times: (count, device, schedule) to diffusion times (count,).
        optimizer, learning_rate, seed, config, compiled: of any Training.
    """

    def __init__(
        self,
        classifier: NoisyClassifier,
        times: Callable,
        optimizer: Callable,
        learning_rate: Callable,
        seed: int,
        config: dict,
        compiled: bool = False,
    ):
        super().__init__(optimizer, learning_rate, seed, config, compiled)
        self.classifier = classifier
        self.times = times

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        count = len(batch.pixels)
        noise = torch.randn_like(batch.pixels, dtype=torch.float32)
        time = self.times(count, self.device, self.classifier.schedule)
        loss = self.objective(batch.pixels, batch.label, noise, time)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=count)
        return loss

    def objective(self, pixels: Tensor, label: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The loss, a scalar, of uint8 pixels (B, C, H, W) with this noise at these diffusion times (B,)."""
        signal_rate, noise_rate = self.classifier.rates(time)
        logits = self.classifier(signal_rate * self.classifier.normalise(pixels) + noise_rate * noise, time)
        total = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
        return total / (label >= 0).sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for name, values in reading(self.classifier, batch)._asdict().items():
            count = len(values)
            self.log(f"val/{name}", values.sum() / max(1, count), batch_size=count, sync_dist=True)
