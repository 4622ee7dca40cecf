"""A denoiser: trained on the data or by a teacher, then scored by what it draws."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer

from diffusion_lab import ranks
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Split
from diffusion_lab.denoiser import Denoiser, NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments import pictures, tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import Figure
from diffusion_lab.metrics.nearest import MOST_COMPARED, nearest
from diffusion_lab.metrics.scoring import Metric, Scoring, check_counts, check_objective, figures_of, measure, to_uint8
from diffusion_lab.parts import build
from diffusion_lab.sampling.drawing import Drawing, drawing
from diffusion_lab.tasks.task import Outcome, Setting, Task
from diffusion_lab.training.augmentation import nothing
from diffusion_lab.training.callbacks import EveryNEpochs, Throughput
from diffusion_lab.training.denoiser import DenoiserTraining
from diffusion_lab.training.module import Training

SHOWN = 16  # images in a table


class DenoiserTask(Task):
    """Learns to denoise, so that it can draw.

    Args:
        criterion, times, label_dropout, augmentation: of a DenoiserTraining.
    """

    kind = Denoiser
    shares = True
    groups = (
        *("task", "data", "network", "schedule", "target", "loss", "weighting", "times", "level", "space", "variance"),
        *("criterion", "teacher", "augmentation", "guidance", "sampler"),
    )

    def __init__(self, criterion: Callable, times: Callable, label_dropout: float, augmentation: Callable = nothing):
        self.criterion = criterion
        self.times = times
        self.label_dropout = label_dropout
        self.augmentation = augmentation

    def training(self, model: NetworkDenoiser, **settings) -> Training:
        return DenoiserTraining(model, self.criterion, self.times, self.label_dropout, self.augmentation, **settings)

    def check(self, model: NetworkDenoiser, setting: Setting) -> None:
        self.criterion.check(model)
        if self.augmentation(torch.zeros(1, *model.shape))[1] is not None and not getattr(model.network, "augmented", None):
            raise UserError(
                f"augmentation says what it did to an image, and {type(model.network).__name__} cannot be told: "
                "take augment=nonleaky with network=unet, unet_64px, ddpmpp or ncsnpp, or augmentation=none"
            )
        asked = metrics(setting.config)
        _check_curves(asked, setting.config)
        check_objective(asked, setting.config["objective"])
        check_counts(asked, setting.config["metrics"]["samples"], len(setting.decoded.held_out))
        build(setting.config["metrics"]["extractor"], "metrics.extractor")  # its weights may not be there

    def callbacks(self, setting: Setting) -> list[Callback]:
        grid, scores = (setting.config[group]["every_n_epochs"] for group in ("grid", "metrics"))
        found = [EveryNEpochs(grid, GridOfEpoch(setting))]
        return [*found, EveryNEpochs(scores, ScoresOfEpoch(setting), is_shared=True)] if scores else found

    def outcome(self, model: Denoiser, setting: Setting) -> Outcome:
        ready = drawing(setting.config, model, setting.machine)
        scored = scoring(setting.config, ready, setting.decoded)
        results = measure(scored, metrics(setting.config))
        if not ranks.is_first():
            return Outcome(results)
        drawn = _drawn(ready, setting)
        if "copies" in results:
            shown = (scored.generated, scored.nearest, setting.decoded, setting.run.samples / "copies.png")
            drawn |= pictures.drawn(closest_to_training=lambda: pictures.save_copies(*shown))
        return Outcome(results, samples=drawn.pop("samples", None), pictures=drawn)

    @staticmethod
    def end(run: Run, results: dict) -> dict[str, Path | str]:
        return {"sample grid": run.final_grid} if run.final_grid.is_file() else {}

    @staticmethod
    def next(checkpoint: str) -> list[tuple[str, str]]:
        return [("sample", f"checkpoint={checkpoint} count=36 seed=1")]


def metrics(config: dict) -> dict[str, Metric]:
    """The metrics that a config asks for, by name, with their settings bound.

    Raises:
        UserError: one does not say what it measures.
    """
    found = {name: build(node, f"metrics.figures.{name}") for name, node in config["metrics"]["figures"].items()}
    figures_of(found)
    return found


def drawn_curves(metrics: dict[str, Metric]) -> list[Figure]:
    """Their figures of drawn images that are also curves while training."""
    return [figure for figure in figures_of(metrics).values() if figure.curve and "samples" in figure.depends_on]


def _check_curves(metrics: dict[str, Metric], config: dict) -> None:
    """Raise UserError where best.ckpt is to be chosen, or training stopped, by what is no curve."""
    known = [f"val/{key}" for key in ("image_loss", "noise_loss", *(figure.key for figure in drawn_curves(metrics)))]
    for key in ("monitor", "early_stop"):
        if config[key] not in (None, *known):
            raise UserError(
                f"{key}={config[key]} is no curve of metrics/figures=[{','.join(metrics)}]: take one of {', '.join(known)}"
            )


def scoring(config: dict, ready: Drawing, decoded: Decoded, trusted: Sequence[str] = ()) -> Scoring:
    """What those metrics are functions of."""
    asked = config["metrics"]
    return Scoring(
        ready.denoiser,
        ready.guided(),
        ready.sampler,
        decoded,
        build(asked["extractor"], "metrics.extractor"),
        ready.machine,
        protocol=asked["protocol"],
        samples=asked["samples"],
        batch_size=asked["batch_size"],
        seed=ready.seed,
        cache_dir=config["data"]["cache_dir"],
        trusted=tuple(trusted),
    )


def scoring_calls(config: dict, decoded: Decoded) -> int:
    """Network calls of scoring, or somewhat more or fewer: for a progress bar."""
    asked = config["metrics"]
    drawn, held_out = (-(-count // asked["batch_size"]) for count in (asked["samples"], len(decoded.held_out)))
    return drawn * config["sampler"]["steps"] + held_out * (1 + (asked.get("vlb_calls") or 0))


def draw_grid(config: dict, ready: Drawing, file: Path) -> Path:
    """Draw the grid of fixed noise: at every epoch the same, so that one sees the network learn."""
    return pictures.save_class_grid(grid_images(config, ready), ready.conditions.names, file)


def grid_images(config: dict, ready: Drawing) -> torch.Tensor:
    """The images (N, C, H, W) of the grid, values from 0 to 1, each class in turn."""
    count = config["grid"]["count"]
    return torch.cat(list(ready.images(count, ready.classes_in_turn(count), count)))


class GridOfEpoch:
    """At the end of an epoch: a sample grid, and held-out images denoised."""

    def __init__(self, setting: Setting):
        self.setting = setting

    def __call__(self, trainer: Trainer, model: Denoiser, epoch: int) -> None:
        config, run, decoded = self.setting.config, self.setting.run, self.setting.decoded
        batch = Split(decoded, decoded.held_out).__getitems__(range(min(5, len(decoded.held_out))))
        drawn = pictures.drawn(
            sample_grid=lambda: draw_grid(config, drawing(config, model, self.setting.machine), run.epoch_grid(epoch)),
            denoised=lambda: pictures.save_denoised(model, batch.pixels, batch.label, run.epoch_denoised(epoch)),
        )
        for name, file in drawn.items():
            tracking.log_image(trainer.loggers, name, file, trainer.global_step - 1)


class ScoresOfEpoch:
    """At the end of an epoch: the figures that are also curves, by their names, `val/<key>`."""

    def __init__(self, setting: Setting):
        self.setting = setting

    def __call__(self, trainer: Trainer, model: Denoiser, epoch: int) -> dict[str, float]:
        config = self.setting.config
        ready = drawing(config, model, self.setting.machine)
        asked = metrics(config)
        results = measure(scoring(config, ready, self.setting.decoded), asked)
        if not trainer.is_global_zero:
            return {}
        drawn = drawn_curves(asked)
        keys = [key for figure in drawn for key in (figure.key, figure.error) if key in results]
        curves = {f"val/{key}": results[key] for key in keys}
        seen = [callback.seen for callback in trainer.callbacks if isinstance(callback, Throughput)]
        for logger in trainer.loggers:
            logger.log_metrics({**curves, **({tracking.SEEN: seen[0]} if seen else {})}, trainer.global_step - 1)
        return {f"val/{figure.key}": curves[f"val/{figure.key}"] for figure in drawn if figure.key in results}


def _samples(ready: Drawing, images: torch.Tensor, setting: Setting) -> tracking.Samples:
    """The first of the grid's images, and the training images that they are nearest to, where those are not too many."""
    images = images[:SHOWN]
    labels = ready.classes_in_turn(len(images))
    said = [ready.conditions.name(int(row)) for row in labels] if labels is not None else ["no label"] * len(images)
    few = setting.decoded.images.nbytes < MOST_COMPARED
    found = nearest(to_uint8(images), setting.decoded) if few else None
    return tracking.Samples(images, ready.seed, said, float(setting.config["guidance"].get("scale") or 1), found)


def _drawn(ready: Drawing, setting: Setting) -> dict[str, Path | tracking.Samples]:
    """Pictures, by name, and under `samples` what a table is made of."""
    grid = cache(lambda: grid_images(setting.config, ready))
    run, decoded, steps = setting.run, setting.decoded, setting.config["sampler"]["steps"]
    pixels = Split(decoded, decoded.held_out).__getitems__([0]).pixels[0]
    return pictures.drawn(
        final_samples=lambda: pictures.save_class_grid(grid(), ready.conditions.names, run.final_grid),
        forward_process=lambda: pictures.save_forward_process(ready.denoiser, pixels, run.samples / "forward.png"),
        reverse_process=lambda: pictures.save_reverse_process(ready, steps, run.samples / "reverse.png"),
        samples=lambda: _samples(ready, grid(), setting),
    )
