"""What happens while a run trains: throughput, sample grids. The rest are Lightning's own callbacks."""

import logging
import time
from collections.abc import Callable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from torch import Tensor

from diffusion_lab import ranks
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import Diverged, StoppedEarly
from diffusion_lab.wording import duration

log = logging.getLogger(__name__)

FIRST_S = 2  # of training, after which its speed is known well enough
STEP_COSTS = 3  # calls of the network: forward once, and backward about twice that


class Throughput(Callback):
    """Logs training images a second, over the steps between two logged ones, and with the held-out errors the seconds
    trained so far: `train_seconds`, without validation, of all sessions of a resumed run."""

    def __init__(self):
        self.seconds, self.seen = 0.0, 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, module)  # which a training does not come by that goes on within an epoch

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.images, self.start = 0, time.perf_counter()
        self.last = self.start

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch, batch_idx: int) -> None:
        now = time.perf_counter()
        images = len(batch.pixels) * trainer.world_size
        self.images += images
        self.seen += images
        self.seconds += now - self.last
        self.last = now
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:
            module.log("images_per_second", self.images / (now - self.start), prog_bar=True)
            self.images, self.start = 0, now

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        module.log("train_seconds", self.seconds)

    def state_dict(self) -> dict:
        return {"seconds": self.seconds, "images": self.seen}

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self.seen = state["seconds"], state.get("images", 0)


class Heartbeat(Callback):
    """Says after the first steps how long the training will take; and, where nobody watches a progress bar, every so many
    seconds how far it is.

    Args:
        every_s: between two lines; None for none.
        seen: by how many images, calls times images, the network will draw what is scored.
    """

    def __init__(self, every_s: float | None, seen: int = 0):
        self.every_s, self.seen, self.first_said, self.images = every_s, seen, False, 0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch, batch_idx: int) -> None:
        if not hasattr(self, "began"):  # after the first step, which may have been compiled
            self.began, self.behind = None, module.progress  # of a training that goes on
        elif self.began is None:
            self.began, self.share, self.images = time.monotonic(), module.progress, 0
            self.said = self.began

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if not (self.began and trainer.is_global_zero):
            return
        now, done = time.monotonic(), module.progress
        self.images += len(batch.pixels)
        if not self.first_said and now - self.began >= FIRST_S and done > self.share:
            self._say_first(module, now - self.began, done - self.share)
        elif self.every_s and now - self.said >= self.every_s and done > self.share:
            left = duration((now - self.began) / (done - self.share) * (1 - done))
            where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
            print(f"{where}: {done:.0%} done, about {left} left", flush=True)
            self.said = now

    def _say_first(self, module: LightningModule, seconds: float, share: float) -> None:
        minutes = module.budget.minutes
        left = (1 - self.behind) * (60 * minutes if minutes else seconds / share)
        of = f"what is left of {module.budget}" if self.behind else module.budget
        said = f"{minutes:g} min" if minutes and not self.behind else f"about {duration(left)} for {of}"
        drawing = self.seen * seconds / self.images / STEP_COSTS
        log.info(
            "time         %s, and %s",
            said,
            f"about {duration(drawing)} for the scores" if drawing else "what the scores take",
        )
        self.first_said = True


def loss_scale(trainer: Trainer, optimizer: torch.optim.Optimizer) -> float:
    """By which gradients are too large before a step: float16 has them scaled, and fused optimizers undo it as they step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler.get_scale() if scaler and getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0


class GradientNorm(Callback):
    """Logs the norm of a step's gradients, before they are clipped, as often as the loss: `train/gradient_norm`."""

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer) -> None:
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:
            gradients = [each.grad for each in module.parameters() if each.grad is not None]
            module.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients) / loss_scale(trainer, optimizer))


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar with two short figures: the loss, and images a second."""

    def __init__(self):
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))
        self.shown = {}

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict:
        # To read a figure is to wait for the device: a GPU is not to be stopped for it at each step.
        if module.device.type == "cpu" or trainer.global_step % trainer.log_every_n_steps == 0:
            metrics = super().get_metrics(trainer, module)
            names = {"train/loss_step": "loss", "images_per_second": "images/s"}
            self.shown = {short: metrics[name] for name, short in names.items() if name in metrics}
        return self.shown


class EpochLine(Callback):
    """One line an epoch where there is no terminal for a progress bar: a log file, a pipe, a side-by-side job."""

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            held_out = sorted((name for name in figures if name.startswith("val/")), key=list(figures).index)
            names = ("train/loss_epoch", *held_out, "images_per_second")
            shown = ", ".join(f"{name} {figures[name]:.4g}" for name in names if name in figures)
            where = f" of {trainer.max_epochs}" if trainer.max_epochs > 0 else f", step {trainer.global_step}"
            print(f"epoch {trainer.current_epoch + 1}{where}: {shown}", flush=True)


class StopDiverged(Callback):
    """Ends a training whose loss or weights are no longer finite, before a checkpoint of them is written.

    It looks at the loss every `log_every_n_steps`, where it is waited for anyway, and at all at an epoch's end.
    """

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch:
            check_finite(trainer, outputs["loss"], "the loss")

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        check_weights(trainer, module)
        for name in sorted(trainer.callback_metrics):
            if name.startswith("val/"):
                check_finite(trainer, trainer.callback_metrics[name], name)


def check_weights(trainer: Trainer, module: LightningModule) -> None:
    """Raise Diverged where a weight is not finite."""
    for name, weights in module.named_parameters():
        check_finite(trainer, weights, f"the weights {name.removeprefix('model.')}")


def check_finite(trainer: Trainer, value: Tensor, what: str) -> None:
    """Raise Diverged where `value`, of a training that goes on, is not finite."""
    if not value.isfinite().all():
        where = f"after step {trainer.global_step}, in epoch {trainer.current_epoch + 1},"
        raise Diverged(f"training diverged: {where} {what} is not finite; take a lower optimizer.lr")


class StopEarly(Callback):
    """Ends a training whose monitored curve is so far behind that `is_to_stop(epoch, value)`, less being better, says so,
    after an epoch that is not the last; the epoch counts from 1. Its checkpoints are written first.

    Raises:
        StoppedEarly: from `fit`; the message is what the run's results say.
    """

    def __init__(self, monitor: str, is_to_stop: Callable[[int, float], bool], less_is_better: bool = True):
        self.monitor, self.is_to_stop, self.less_is_better, self.why = monitor, is_to_stop, less_is_better, None

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            return
        epoch, value = trainer.current_epoch + 1, float(trainer.callback_metrics[self.monitor])
        if epoch != trainer.max_epochs and not trainer.should_stop:
            stops = trainer.is_global_zero and self.is_to_stop(epoch, value if self.less_is_better else -value)
            if trainer.strategy.broadcast(stops):
                self.why = f"after epoch {epoch}, {self.monitor} {value:.4g}, early_terminate stopped it"
                trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.why:
            raise StoppedEarly(self.why)


class EveryNEpochs(Callback):
    """Calls `act(trainer, denoiser, epoch)` after every n-th epoch's validation, while the averaged weights are in place.
    What it returns, values by the names of curves, all processes can then monitor.

    It must stand before Lightning's weight averaging among the callbacks, which swaps the weights back.

    Args:
        is_shared: all processes call it; else the first alone.
    """

    def __init__(self, n: int, act: Callable[[Trainer, Denoiser, int], dict[str, float] | None], is_shared: bool = False):
        self.n, self.act, self.is_shared = n, act, is_shared
        self.found: dict[str, float] = {}

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        for name in self.found:  # which Lightning would go on showing, and what stops early would count again
            trainer.callback_metrics.pop(name, None)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.n == 0:
            is_called = self.is_shared or trainer.is_global_zero
            found = self.act(trainer, module.model, epoch) if is_called else None
            ranks.wait()  # a step would wait for the first process for half an hour, and then give up
            self.found = trainer.strategy.broadcast(found) or {}
            for name, value in self.found.items():
                module.log(name, value, logger=False)
