"""Training: Lightning's loop, as train.py runs it, against bare loops that take turns with it."""

import statistics
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.swa_utils import AveragedModel

from diffusion_lab.benchmarks import peers
from diffusion_lab.benchmarks.machine import convolution
from diffusion_lab.benchmarks.subject import experiment, forward_flops, random_images, title, training_parts
from diffusion_lab.benchmarks.timing import Figure, Work, compare, now, rate
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch
from diffusion_lab.experiments import tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import autocast, choose_precision, pick_device
from diffusion_lab.parts import build
from diffusion_lab.tasks.fitting import quiet_lightning, standard_callbacks
from diffusion_lab.training.averaging import update
from diffusion_lab.training.callbacks import EpochLine, ProgressBar

WARM_UP = 3  # steps that are not measured


class Turns(Callback):
    """Times blocks of Lightning's steps, from the end of one step to that of another; in between, rivals run.

    Attributes:
        rates: images a second of "train.py" and of each rival, one a round.
        waits: the share of each block that went by before its batches were on the device.
    """

    def __init__(self, rivals: dict[str, Work], rounds: int, seconds: float):
        self.rivals, self.rounds, self.seconds = rivals, rounds, seconds
        self.rates = {name: [] for name in ("train.py", *rivals)}
        self.waits = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        for work in self.rivals.values():
            work()
        self._restart()

    def _restart(self) -> None:
        self.images, self.waited, self.start = 0, 0.0, now()
        self.step_end = self.start

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.waited += now(wait=False) - self.step_end

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch: Batch, batch_idx: int) -> None:
        self.images += len(batch.pixels)
        self.step_end = now(wait=False)
        if batch_idx < WARM_UP:
            self._restart()
        elif self.step_end - self.start >= self.seconds:
            elapsed = now() - self.start
            self.rates["train.py"].append(self.images / elapsed)
            self.waits.append(self.waited / elapsed)
            for name, work in self.rivals.items():
                self.rates[name].append(rate(work, self.seconds))
            trainer.should_stop = len(self.waits) >= self.rounds
            self._restart()


def take_turns(config: dict, folder: Path, rivals: dict[str, Work], rounds: int, seconds: float) -> Turns:
    """Train as `config` says while `rivals` take turns with it."""
    turns = Turns(rivals, rounds, seconds)
    lightning_loop(config, folder, turns)
    return turns


def lightning_loop(
    config: dict, folder: Path, callback: Callback, batches: int = 2000, decoded: Decoded | None = None
) -> None:
    """train.py's own loop with its callbacks and `callback`, until that stops it; one epoch of `batches`, no validation.

    Args:
        decoded: the images; None: a few, of random pixels.
    """
    quiet_lightning()
    decoded = decoded or random_images(config, folder, min(batches * config["batch_size"], 4096))
    config = {**config, "data": {**config["data"], "repeat": -(-batches * config["batch_size"] // len(decoded.train))}}
    module, images = training_parts(config, decoded, folder)
    precision = choose_precision(config["trainer"]["precision"], pick_device(config["trainer"]["accelerator"]))
    changed = {"precision": precision, "limit_val_batches": 0, "max_epochs": 1, "enable_progress_bar": False}
    run = Run(folder)
    standard = standard_callbacks({**config, "monitor": "train/loss"}, run)
    callbacks = [*(part for part in standard if not isinstance(part, EpochLine | ProgressBar)), callback]  # says nothing
    logger = tracking.metrics_csv(run)
    trainer: Trainer = build({**config["trainer"], **changed}, "trainer", callbacks=callbacks, logger=logger)
    trainer.fit(module, datamodule=images)


def bare_loop(config: dict, folder: Path, plain: bool = False) -> Work:
    """The same step without Lightning, on one batch: objective, backward, optimizer, average of the weights.

    Args:
        plain: in float32 and contiguous memory, as most programs do it, whatever is best here.
    """
    device = pick_device(config["trainer"]["accelerator"])
    precision = "32-true" if plain else choose_precision(config["trainer"]["precision"], device)
    module, images = training_parts(config, random_images(config, folder, config["batch_size"]), folder)
    module.to(device)
    if plain:
        module.to(memory_format=torch.contiguous_format)
    elif module.compiled:
        module.on_fit_start()
    optimizer = module.optimizer(module.parameters())
    ema = config["ema"] and partial(update, decay=config["ema"]["decay"])
    average = AveragedModel(module, use_buffers=True, multi_avg_fn=ema) if ema else None
    batch = Batch(*(part.to(device) for part in images.train.__getitems__(range(config["batch_size"]))))
    batch = batch._replace(pixels=batch.pixels.contiguous()) if plain else batch
    context = autocast(precision, device)

    def work() -> int:
        with context:
            loss = module.objective(*module.draw(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if average:
            average.update_parameters(module)
        return len(batch.pixels)

    return work


def against_bare_loops(folder: Path, rounds: int, seconds: float, overrides: list[str]) -> list[Figure]:
    """train.py against the same step in a bare loop, against that loop as most programs do it, and the machine's ceiling."""
    config = experiment(*overrides)
    bare, plain, ceiling = "bare loop of the same step", "bare loop, float32 and contiguous", "a 3x3 convolution alone"
    device = pick_device(config["trainer"]["accelerator"])
    dtype = torch.bfloat16 if choose_precision("auto", device) == "bf16-mixed" else torch.float32
    rivals = {bare: bare_loop(config, folder), plain: bare_loop(config, folder, plain=True)}
    turns = take_turns(config, folder, {**rivals, ceiling: convolution(dtype, device)}, rounds, seconds)
    rates = turns.rates
    flops = 3 * forward_flops(config)  # the backward pass costs two forward passes
    rates["arithmetic"] = [flops * rate / 1e9 for rate in rates["train.py"]]
    rates[ceiling] = [rate / 1e9 for rate in rates[ceiling]]
    name = f"train.py, {title(config)}"
    return [
        compare(name, "images/s", rates, "train.py", bare, "≥ 0.97"),
        compare(name, "images/s", rates, "train.py", plain, "≥ 6 with AMX"),
        compare(name, "GFLOP/s", rates, "arithmetic", ceiling),
        Figure(f"waiting for data, {title(config)}", 100 * statistics.median(turns.waits), "% of a step", aim="< 2"),
    ]


def against_peers(folder: Path, rounds: int, seconds: float, batch_size: int, matches: dict) -> list[Figure]:
    """train.py against each installed peer, on a network of about as many parameters.

    Args:
        matches: by the module that a peer needs, the `overrides` of train.py and the `aim` of the ratio.
    """
    figures, known = [], peers.installed()
    for module, match in matches.items():
        if module not in known:
            figures.append(Figure(f"{module} is not installed (pip install '.[peers]')", None, ""))
            continue
        config = experiment(*match["overrides"], f"batch_size={batch_size}")
        device = pick_device(config["trainer"]["accelerator"])
        work, parameters = known[module](config["data"]["image_size"], batch_size, device)
        name = f"{module}, {parameters / 1e6:.2f} M parameters"
        rates = take_turns(config, folder, {name: work}, rounds, seconds).rates
        figures.append(compare(f"train.py, {title(config)}", "images/s", rates, "train.py", name, match["aim"]))
    return figures
