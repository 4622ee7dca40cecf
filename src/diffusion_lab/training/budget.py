"""How long a training is to be."""

from dataclasses import dataclass
from datetime import timedelta

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from diffusion_lab.wording import counted

TICKS = 10_000  # of a schedule over minutes


@dataclass(frozen=True)
class Budget:
    """Epochs; or steps of the optimizer, or minutes of the training loop (held-out errors and pictures included, those
    before an interruption too), or both, whichever is over first."""

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None

    def callbacks(self) -> list[Callback]:
        """Lightning's clock, and what ends the training where that is not after an epoch."""
        clock = Timer(timedelta(minutes=self.minutes) if self.minutes else None, verbose=False)
        return [clock, *([StopAfter(self.steps)] if self.steps else [])]

    def schedule_steps(self, trainer: Trainer) -> int:
        """Over how many steps the learning rate's schedule goes: the optimizer's, or for minutes TICKS of equal time."""
        if self.minutes:
            return TICKS
        return self.steps or trainer.estimated_stepping_batches

    def share_done(self, trainer: Trainer, ahead: int = 0) -> float:
        """How much of it is behind, from 0 to 1; the schedule is so many steps ahead of those taken."""
        if not self.minutes:
            return (trainer.global_step + ahead) / self.schedule_steps(trainer)
        clock = next(callback for callback in trainer.callbacks if isinstance(callback, Timer))
        shares = [clock.time_elapsed() / (60 * self.minutes)] + ([trainer.global_step / self.steps] if self.steps else [])
        return min(1.0, trainer.strategy.broadcast(max(shares)))  # one clock for all devices

    def __str__(self) -> str:
        if self.epochs:
            return counted(self.epochs, "epoch")
        named = [counted(self.steps, "step")] if self.steps else []
        return " or ".join(named + ([f"{self.minutes:g} min"] if self.minutes else []))


class StopAfter(Callback):
    """Ends a training after `steps` of the optimizer, with the held-out errors and the checkpoints of an epoch's end, which
    Lightning's own max_steps leaves out in the middle of one."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.on_train_batch_end(trainer, module)  # one that was killed after its last step has none to take

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True
