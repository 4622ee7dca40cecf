"""A classifier of noisy images: to guide a denoiser or, of clean ones, to judge what it draws."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.images import Split, batches_of
from diffusion_lab.experiments import pictures
from diffusion_lab.experiments.accuracy_figure import accuracy_figure
from diffusion_lab.experiments.runs import Run
from diffusion_lab.metrics.classification import reading_figures
from diffusion_lab.tasks.task import Outcome, Setting, Task
from diffusion_lab.training.classifier import ClassifierTraining
from diffusion_lab.training.module import Training


class ClassifierTask(Task):
    """Learns to read the class of noisy images.

    Args:
        times: of a ClassifierTraining.
    """

    kind = NoisyClassifier
    groups = ("task", "data", "network", "schedule", "times", "level", "space")

    def __init__(self, times: Callable):
        self.times = times

    def training(self, model: NoisyClassifier, **settings) -> Training:
        return ClassifierTraining(model, self.times, **settings)

    def outcome(self, model: NoisyClassifier, setting: Setting) -> Outcome:
        held_out = Split(setting.decoded, setting.decoded.held_out)
        batches = partial(batches_of, held_out, setting.config["metrics"]["batch_size"])
        results = reading_figures(model.to(setting.machine.device), batches, setting.machine.autocast)
        results["held_out"] = setting.decoded.held_out_key
        file = setting.run.accuracy
        file.parent.mkdir(exist_ok=True)
        by_time = results["accuracy_by_time"]

        def draw() -> Path:
            accuracy_figure(by_time, model.schedule, len(model.conditions)).savefig(file)
            return file

        return Outcome(results, pictures.drawn(accuracy=draw))

    @staticmethod
    def end(run: Run, results: dict) -> dict[str, Path | str]:
        by_time = ", ".join(f"{share:.3f} at {time}" for time, share in list(results["accuracy_by_time"].items())[::2])
        said = f"{by_time}: of all held-out images at one time"
        return {"accuracy": said, "checkpoint": run.last_checkpoint, "by noise": run.accuracy}
