"""Checkpoints in the middle of an epoch, from which a training goes on exactly: the order of the images, all random numbers,
the weights and their averages are those of a training that was never interrupted."""

import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from diffusion_lab.training.callbacks import check_weights


class Midway(Callback):
    """Writes a checkpoint every so many minutes or steps beside those of whole epochs, and restores what is random.

    The epoch's images are `diffusion_lab.data.images.Images`' to go on with. Training on one device only: what others hold
    is not in a checkpoint.

    Args:
        file: that is written.
        minutes, steps: between two; None for never.
    """

    def __init__(self, file: Path, minutes: float | None = None, steps: int | None = None):
        self.file, self.minutes, self.steps = file, minutes, steps
        self.random: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.written = time.monotonic()
        if not trainer.fit_loop.restarted_mid_epoch:
            return
        if not self.random:  # of several devices
            module.on_train_epoch_start()
        else:
            torch.set_rng_state(self.random["cpu"])
            if "cuda" in self.random and module.device.type == "cuda":
                torch.cuda.set_rng_state(self.random["cuda"], module.device)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if trainer.world_size > 1 or trainer.is_last_batch or trainer.fit_loop._should_accumulate():
            return
        due = self._is_due(trainer.global_step)
        if due or trainer.should_stop:  # stopped here, a longer training goes on from here
            self.random = {"cpu": torch.get_rng_state()}
            if module.device.type == "cuda":
                self.random["cuda"] = torch.cuda.get_rng_state(module.device)
        if due:
            check_weights(trainer, module)
            trainer.save_checkpoint(self.file)
            self.written = time.monotonic()

    def _is_due(self, step: int) -> bool:
        elapsed = time.monotonic() - self.written
        return bool((self.steps and step % self.steps == 0) or (self.minutes and elapsed >= 60 * self.minutes))

    def state_dict(self) -> dict:
        return {"random": self.random}

    def load_state_dict(self, state: dict) -> None:
        self.random = state["random"]


def go_on_in_the_epoch(checkpoint: dict) -> None:
    """Let a training whose budget ended in the middle of an epoch go on there: to Lightning it is whole."""
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    current = epochs["current"]
    if current["processed"] == current["ready"] and not batches["is_last_batch"]:
        for count in (current, epochs["total"]):
            count["processed"] -= 1
