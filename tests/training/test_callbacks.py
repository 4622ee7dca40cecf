"""A training that goes astray ends before it leaves anything that is not finite."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from diffusion_lab.errors import Diverged
from diffusion_lab.training.budget import Budget
from diffusion_lab.training.callbacks import Heartbeat, StopDiverged

STEPS = 4  # an epoch


class Toy(LightningModule):
    """One weight; `act(module, epoch)` says what becomes of it and gives the loss, `held_out(epoch)` the held-out error."""

    def __init__(self, act: Callable, held_out: Callable[[int], float]):
        super().__init__()
        self.model = torch.nn.Linear(1, 1)
        self.act, self.held_out = act, held_out

    def training_step(self, batch, batch_idx: int) -> torch.Tensor:
        return self.model.weight.sum() * 0 + self.act(self, self.current_epoch)

    def validation_step(self, batch, batch_idx: int) -> None:
        self.log("val/error", self.held_out(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def sound(*_) -> float:
    return 1.0


def poison(module: Toy, epoch: int) -> float:
    with torch.no_grad():
        module.model.bias.fill_(math.inf if epoch else 0.0)
    return 1.0


@pytest.mark.parametrize(
    ("act", "held_out", "message"),
    [
        (lambda _, epoch: math.nan if epoch else 1.0, sound, "in epoch 2, the loss is not finite"),
        (lambda _, epoch: math.inf if epoch else 1.0, sound, "in epoch 2, the loss is not finite"),
        (poison, sound, "in epoch 2, the weights bias is not finite"),
        (sound, lambda epoch: math.nan if epoch else 1.0, "in epoch 2, val/error is not finite"),
    ],
    ids=["loss NaN", "loss infinite", "weights", "held-out error"],
)
def test_it_stops_and_the_checkpoint_is_that_of_before(tmp_path, act, held_out, message):
    file = fitted(tmp_path, act, held_out, message)
    assert torch.load(file, weights_only=False)["global_step"] == STEPS  # the first epoch's


def test_a_sound_training_is_not_stopped(tmp_path):
    assert torch.load(fitted(tmp_path, sound, sound, None), weights_only=False)["global_step"] == 2 * STEPS


def fitted(folder: Path, act: Callable, held_out: Callable, message: str | None) -> Path:
    """Fit for two epochs, until `message` ends it; returns the checkpoint of the last whole epoch."""
    keep = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=STEPS,
        callbacks=[StopDiverged(), keep],
        default_root_dir=folder,
    )
    train, held = (DataLoader([torch.zeros(1)] * count, batch_size=None) for count in (STEPS, 1))
    if message is None:
        trainer.fit(Toy(act, held_out), train, held)
    else:
        with pytest.raises(Diverged, match=message):
            trainer.fit(Toy(act, held_out), train, held)
    return folder / "last.ckpt"


def test_a_heartbeat_says_once_how_long_it_takes_and_then_how_far_it_is(monkeypatch, caplog, capsys):
    caplog.set_level("INFO", "diffusion_lab")
    now, module = [0.0], SimpleNamespace(progress=0.0, budget=Budget(epochs=4))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trainer = SimpleNamespace(is_global_zero=True, current_epoch=0, global_step=0)
    beat, batch = Heartbeat(every_s=30, seen=4 * 3 * 200), SimpleNamespace(pixels=[0] * 4)
    for step in range(100):  # of a second each, but the first, which takes ten; 1 % a step
        beat.on_train_batch_start(trainer, module, batch, step)
        now[0] += 10 if step == 0 else 1
        trainer.global_step, module.progress = step + 1, (step + 1) / 100
        beat.on_train_batch_end(trainer, module, None, batch, step)
    assert caplog.text.count("about 2 min for 4 epochs, and about 3 min for the scores") == 1  # 100 s and 200 s
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"epoch 1, step {at}: {at}% done, about {100 - at} s left" for at in (31, 61, 91)]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(epochs=17), "about 20 s for what is left of 17 epochs, and"),
        (Budget(minutes=10), "about 2 min for what is left of 10 min, and"),
    ],
)
def test_a_training_that_goes_on_says_how_long_the_rest_takes(monkeypatch, caplog, budget, said):
    caplog.set_level("INFO", "diffusion_lab")
    now, module = [0.0], SimpleNamespace(progress=0.8, budget=budget)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trainer, batch = SimpleNamespace(is_global_zero=True), SimpleNamespace(pixels=[0] * 4)
    beat = Heartbeat(every_s=None)
    for step in range(10):  # of a second, and 1 %, each
        beat.on_train_batch_start(trainer, module, batch, step)
        now[0], module.progress = now[0] + 1, 0.8 + (step + 1) / 100
        beat.on_train_batch_end(trainer, module, None, batch, step)
    assert said in caplog.text
