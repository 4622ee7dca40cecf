"""Averages of which one of any length can be made after training, kept and written now and then."""

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from diffusion_lab.averages import LENGTHS, exponent, move, write_snapshot


class Snapshots(Callback):
    """Keeps power-function averages of the trained weights, see `diffusion_lab.averages`, and writes them after every so
    many epochs, and at the end. Each takes as much memory, and as much of a checkpoint, as the weights.

    Args:
        folder: for the files.
        every_n_epochs: between two.
    """

    def __init__(self, folder: Path, every_n_epochs: int):
        self.folder, self.every_n_epochs = folder, every_n_epochs
        self.averages: dict[float, dict[str, Tensor]] = {}
        self.gammas = {length: exponent(length) for length in LENGTHS}
        self.step = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        weights = _trained(module)
        if not self.averages:
            self.averages = {length: {name: each.clone() for name, each in weights.items()} for length in LENGTHS}
        for average in self.averages.values():  # out of a checkpoint, perhaps of another device
            average.update({name: average[name].to(each.device) for name, each in weights.items()})
        self.step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_) -> None:
        if trainer.global_step == self.step:  # gradients of a later step are accumulated
            return
        self.step = trainer.global_step
        weights = list(_trained(module).values())
        for length, average in self.averages.items():
            move(list(average.values()), weights, self.step, self.gammas[length])

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            write_snapshot(self.folder, self.step, self.averages)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            write_snapshot(self.folder, self.step, self.averages)

    def state_dict(self) -> dict:
        return {"averages": self.averages}

    def load_state_dict(self, state: dict) -> None:
        self.averages = state["averages"]


def _trained(module: LightningModule) -> dict[str, Tensor]:
    """The weights that training changes, by their names in a checkpoint's model."""
    return {name: each.data for name, each in module.model.named_parameters() if each.requires_grad}
