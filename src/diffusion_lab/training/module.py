"""The LightningModules: what every training keeps to, and one step of a Denoiser's, with its held-out errors."""

import math
from collections.abc import Callable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.hardware import compile_mode
from diffusion_lab.metrics.errors import denoising_errors
from diffusion_lab.process.learned import Learned
from diffusion_lab.process.posterior import divergence
from diffusion_lab.process.schedules import log_snr


class Training(LightningModule):
    """Seeds, compiles and optimises its `objective`, a scalar loss of tensors, which the kinds of training bring.

    Args:
        optimizer: parameters to an optimizer.
        learning_rate: (optimizer, total_steps) to a torch scheduler, stepped each batch.
        seed: the random numbers of epoch e depend on (seed, e) alone, so a resumed run repeats an unbroken one.
        config: plain values, carried by every checkpoint.
        compiled: run the objective, forward and backward, through torch.compile.
    """

    def __init__(self, optimizer: Callable, learning_rate: Callable, seed: int, config: dict, compiled: bool = False):
        super().__init__()
        self.optimizer = optimizer
        self.learning_rate = learning_rate
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

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        scheduler = self.learning_rate(optimizer, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["config"] = self.config


class DiffusionTraining(Training):
    """Trains `denoiser` to give its target from noisy images.

    Args:
        denoiser: the network with its schedule, target and normalisation.
        loss: an elementwise loss of (output, target), such as torch.nn.MSELoss(reduction="none").
        weighting: signal rates, noise rates and gains (B,) to the weights (B,) of the images' losses.
        times: (count, device, schedule) to diffusion times (count,).
        label_dropout: probability of hiding an image's label, so that the network also works without one.
        optimizer, learning_rate, seed, config, compiled: of any Training.
        vlb_weight: of the variational bound, in bits per dimension, where the network predicts variances: 0.001 in the
            hybrid objective of Nichol and Dhariwal 2021 (arXiv:2102.09672, eq. 16).
        vlb_steps: that the bound is about.
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
        vlb_weight: float = 0.0,
        vlb_steps: int = 1000,
        compiled: bool = False,
    ):
        super().__init__(optimizer, learning_rate, seed, config, compiled)
        self.denoiser = denoiser
        self.loss = loss
        self.weighting = weighting
        self.times = times
        self.label_dropout = label_dropout
        self.vlb_weight = vlb_weight
        self.vlb_steps = vlb_steps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        count = len(batch.pixels)
        hidden = torch.rand(count, device=self.device) < self.label_dropout
        noise = torch.randn_like(batch.pixels, dtype=torch.float32)
        loss = self.objective(batch.pixels, torch.where(hidden, -1, batch.label), noise, self.draw_times(count))
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=count)
        return loss

    def draw_times(self, count: int) -> Tensor:
        """Diffusion times (count,) of a batch."""
        return self.times(count, self.device, self.denoiser.schedule)

    def objective(self, pixels: Tensor, label: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The loss, a scalar, of uint8 pixels (B, C, H, W) with this noise at these diffusion times (B,)."""
        image = self.denoiser.normalise(pixels)
        rates = self.denoiser.rates(time)
        signal_rate, noise_rate = rates
        output, fraction = self.denoiser.output(signal_rate * image + noise_rate * noise, time, label)
        target, gain = self.denoiser.target.of(image, noise, *rates), self.denoiser.target.gain(*rates)
        losses = self.loss(output, target).flatten(1).mean(1)
        loss = (losses * self.weighting(signal_rate.flatten(), noise_rate.flatten(), gain.flatten())).mean()
        if fraction is not None:
            loss = loss + self._bound(gain * (output - target).detach(), fraction, time, rates)
        if isinstance(self.denoiser.schedule, Learned):
            noise_errors = (signal_rate / noise_rate * gain * (output - target)).square().flatten(1).mean(1)
            loss = loss + self.denoiser.schedule.variance(log_snr(*rates).flatten(), noise_errors)
        return loss

    def _bound(self, error: Tensor, fraction: Tensor, time: Tensor, rates: tuple[Tensor, Tensor]) -> Tensor:
        """The variational bound's steps, from which the variances learn; but the last, where samplers add no noise.

        No gradient flows into the image estimate, whose `error` is given (arXiv:2102.09672, sec. 3.1).
        """
        earlier = (time - 1 / self.vlb_steps).clamp(min=0)
        inner = (time > 1 / self.vlb_steps).float().view(-1, 1, 1, 1)
        nats = divergence(error, rates, self.denoiser.rates(earlier), fraction)
        return self.vlb_weight * self.vlb_steps * (inner * nats).mean() / math.log(2)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        errors = denoising_errors(self.denoiser, *batch)
        for name, values in errors._asdict().items():
            self.log(f"val/{name}_loss", values.mean(), batch_size=len(values), sync_dist=True)
