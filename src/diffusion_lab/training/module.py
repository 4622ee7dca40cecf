"""The LightningModule: one training step of a Denoiser, and its held-out errors."""

from collections.abc import Callable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.hardware import compile_mode
from diffusion_lab.metrics.errors import denoising_errors


class DiffusionTraining(LightningModule):
    """Trains `denoiser` to give its target from noisy images.

    Args:
        denoiser: the network with its schedule, target and normalisation.
        loss: an elementwise loss of (output, target), such as torch.nn.MSELoss(reduction="none").
        weighting: rates (B,) to the weights (B,) of the images' losses.
        times: (count, device) to diffusion times (count,).
        optimizer: parameters to an optimizer.
        learning_rate: (optimizer, total_steps) to a torch scheduler, stepped each batch.
        label_dropout: probability of hiding an image's label, so that the network also works without one.
        seed: the random numbers of epoch e depend on (seed, e) alone, so a resumed run repeats an unbroken one.
        config: plain values, carried by every checkpoint.
        compiled: run the loss, forward and backward, through torch.compile.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        loss: nn.Module,
        weighting: Callable,
        times: Callable,
        optimizer: Callable,
        learning_rate: Callable,
        label_dropout: float,
        seed: int,
        config: dict,
        compiled: bool = False,
    ):
        super().__init__()
        self.denoiser = denoiser
        self.loss = loss
        self.weighting = weighting
        self.times = times
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.label_dropout = label_dropout
        self.seed = seed
        self.config = config
        self.compiled = compiled

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch * 1009 + self.global_rank)

    def on_fit_start(self) -> None:
        if self.compiled:
            # Not the network itself: checkpoints keep their keys, and drawing and scoring, of changing shapes, stay eager.
            mode = compile_mode(self.device, sum(parameter.numel() for parameter in self.parameters()))
            self.objective = torch.compile(self.objective, mode=mode, dynamic=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        count = len(batch.pixels)
        hidden = torch.rand(count, device=self.device) < self.label_dropout
        noise = torch.randn_like(batch.pixels, dtype=torch.float32)
        loss = self.objective(batch.pixels, torch.where(hidden, -1, batch.label), noise, self.times(count, self.device))
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=count)
        return loss

    def objective(self, pixels: Tensor, label: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The weighted loss, a scalar, of uint8 pixels (B, C, H, W) with this noise at these diffusion times (B,)."""
        image = self.denoiser.normalise(pixels)
        signal_rate, noise_rate = self.denoiser.rates(time)
        output = self.denoiser.output(signal_rate * image + noise_rate * noise, signal_rate, noise_rate, label)
        target = self.denoiser.target.of(image, noise, signal_rate, noise_rate)
        losses = self.loss(output, target).flatten(1).mean(1)
        return (losses * self.weighting(signal_rate.flatten(), noise_rate.flatten())).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        errors = denoising_errors(self.denoiser, *batch)
        for name, values in errors._asdict().items():
            self.log(f"val/{name}_loss", values.mean(), batch_size=len(values), sync_dist=True)

    def configure_optimizers(self):
        optimizer = self.optimizer(self.denoiser.parameters())
        scheduler = self.learning_rate(optimizer, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["config"] = self.config
