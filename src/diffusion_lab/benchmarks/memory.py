"""How much memory a training takes, and whether that grows."""

import multiprocessing
import resource
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from diffusion_lab.benchmarks.subject import experiment, title
from diffusion_lab.benchmarks.timing import Figure
from diffusion_lab.benchmarks.training import lightning_loop
from diffusion_lab.hardware import keep_freed_memory


class Peaks(Callback):
    """The highest memory use of the process, in MB, after the first steps and after all."""

    def __init__(self, first: int, steps: int):
        self.first, self.steps, self.peaks = first, steps, []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if batch_idx + 1 in (self.first, self.steps):
            self.peaks.append(_peak())
        trainer.should_stop = batch_idx + 1 >= self.steps


def of_training(folder: Path, rounds: int, seconds: float, overrides: list[str], steps: int) -> list[Figure]:
    """The peak after `steps` steps, and how much of it came after the first tenth of them; in a process of its own."""
    config = experiment(*overrides)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        first, last = pool.apply(_train, (config, folder, steps))
    what = f"peak of {'GPU' if torch.cuda.is_available() else 'process'} memory, {title(config)}"
    return [
        Figure(what, last, "MB"),
        Figure(f"its growth from step {steps // 10} to {steps}", 100 * (last - first) / first, "%", aim="< 2"),
    ]


def _train(config: dict, folder: Path, steps: int) -> list[float]:
    keep_freed_memory()
    peaks = Peaks(steps // 10, steps)
    lightning_loop(config, folder, peaks, batches=steps)
    return peaks.peaks


def _peak() -> float:
    """MB. The system's own record is not asked where it can be helped: a process inherits it from the one that began it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    if Path("/proc/self/status").is_file():
        return status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def status(key: str) -> float:
    """MB of this process, as Linux calls them: VmHWM, the peak of all; RssAnon, what is no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6
