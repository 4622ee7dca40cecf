"""What a metric is a function of, and the metrics that a config asks for, one after the other.

A metric is a function of a `Scoring`, and of settings, to {key: value}; it says which figures those are. It has a YAML below
conf/metrics/figures.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_lab import ranks
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch, Split, batches_of
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import Diverged, UserError
from diffusion_lab.figures import Figure
from diffusion_lab.hardware import Machine
from diffusion_lab.metrics.features import cached_features, extracted, features_of
from diffusion_lab.metrics.nearest import Nearest, two_nearest
from diffusion_lab.metrics.spread import spread
from diffusion_lab.sampling.draw import NetworkCalls, Sampler, draw
from diffusion_lab.spaces.pixels import Pixels

log = logging.getLogger(__name__)

TOLD_EVERY_S = 30

Metric = Callable[["Scoring"], dict[str, float]]


def measures(*figures: Figure, fewest: int = 1) -> Callable:
    """A decorator: these are the figures that a metric gives, of so many held-out and generated images at the fewest."""

    def say(metric: Metric) -> Metric:
        metric.figures, metric.fewest = figures, fewest
        return metric

    return say


def figures_of(metrics: dict[str, Metric]) -> dict[str, Figure]:
    """All figures of some metrics, whose settings may be bound, by key.

    Raises:
        UserError: a metric does not say what it measures.
    """
    found = {name: getattr(getattr(metric, "func", metric), "figures", None) for name, metric in metrics.items()}
    for name, figures in found.items():
        if not figures:
            raise UserError(f"metrics.figures.{name} says no figure: put @measures(Figure(...)) above its function")
    return {figure.key: figure for figures in found.values() for figure in figures}


def check_counts(metrics: dict[str, Metric], samples: int, held_out: int) -> None:
    """Raise UserError where one of the metrics wants more images than there are to be generated, or held out."""
    for name, metric in metrics.items():
        fewest = getattr(getattr(metric, "func", metric), "fewest", 1)
        if samples < fewest:
            raise UserError(f"metrics.samples={samples} is too few for {name}: at least {fewest}")
        if held_out < fewest:
            raise UserError(f"{held_out} held-out images are too few for {name}, which needs {fewest}: take more images")


def check_objective(metrics: dict[str, Metric], objective: str) -> None:
    """Raise UserError where none of the metrics measures the objective."""
    known = figures_of(metrics)
    if objective not in known:
        raise UserError(
            f"objective={objective} is not measured by metrics/figures=[{','.join(metrics)}]: take one of {', '.join(known)}"
        )


@dataclass
class Scoring:
    """One denoiser to be scored on one data set. What several metrics want is made once, when the first asks for it; of
    several processes each makes its share, batch by batch, so that all is as one alone would make it.

    Attributes:
        denoiser: without guidance.
        guided: the one that draws.
        sampler: it draws with.
        decoded: the data set, of which the held-out images count.
        extractor: of features, see `diffusion_lab.metrics.features`.
        machine: where it is done.
        protocol: the name of the way in which metrics are computed.
        samples: images to generate.
        batch_size: images at a time; fixed by the config, for float rounding depends on it.
        seed: of the generated images, and of random subsets.
        cache_dir: for the features of real images.
        trusted: packages whose classes a checkpoint may name.
    """

    denoiser: Denoiser
    guided: Denoiser
    sampler: Sampler
    decoded: Decoded
    extractor: nn.Module
    machine: Machine
    protocol: str
    samples: int
    batch_size: int
    seed: int
    cache_dir: str | Path
    trusted: tuple[str, ...] = ()

    @cached_property
    def held_out(self) -> Split:
        return Split(self.decoded, self.decoded.held_out)

    def batches(self) -> Iterator[Batch]:
        """The held-out images in order, on the device."""
        for batch in batches_of(self.held_out, self.batch_size):
            yield Batch(*(part.to(self.machine.device) for part in batch))

    @cached_property
    def labels(self) -> Tensor:
        """The label (N,) of each generated image: the held-out images' in turn, -1 where there are none."""
        labels = self.held_out.labels[self.held_out.positions]
        return labels[torch.arange(self.samples) % len(labels)]

    @cached_property
    def generated(self) -> Tensor:
        """The generated images, uint8 (N, C, H, W) on the CPU: rounded to 8 bit, as if saved and read again."""
        log.info(
            "drawing %d images and scoring them against %d real ones (%s)",
            *(self.samples, len(self.held_out.positions), self.extractor.identity),
        )
        ranks.from_first("generated")
        with NetworkCalls(self.guided) as calls:
            images = torch.cat(list(self._told(self._drawn())))
        own = images.split(self.batch_size)[:: ranks.count()]
        self.network_calls = calls.count // sum(len(batch) for batch in own)
        return images

    def _drawn(self) -> Iterator[Tensor | None]:
        """The batches of generated images; None in place of those that another process than the first leaves to others."""

        def each(work: Callable, parts: Iterable) -> Iterator[Tensor | None]:
            return ranks.divided(lambda part: to_uint8(work(part)), parts)

        settings = (self.samples, self.seed, self.batch_size, self.labels, self.machine.autocast)
        return draw(self.guided, self.sampler, *settings, each=each)

    def help(self) -> None:
        """In a process beside the first: do its share of what that one asks for, until it has measured all."""
        extractor, generated = self.extractor.to(self.machine.device), []
        while asked := ranks.from_first():
            if asked == "generated":
                generated = list(self._drawn())
            else:
                pixels = generated if asked == "features" else self._real_pixels()
                list(extracted(pixels, extractor, ranks.divided))

    def _real_pixels(self) -> Iterator[Tensor]:
        return (batch.pixels for batch in batches_of(self.held_out, self.batch_size))

    def _told(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """The same, with a line now and then of how many images there are."""
        told, done = time.monotonic(), 0
        for batch in batches:
            yield batch
            done += len(batch)
            if done < self.samples and time.monotonic() - told >= TOLD_EVERY_S:
                log.info("drew %d of %d images", done, self.samples)
                told = time.monotonic()

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) of the real, and (M, D) of the generated images."""
        extractor = self.extractor.to(self.machine.device)
        positions = hashlib.sha256(self.decoded.held_out.tobytes()).hexdigest()[:8]
        way = "-over_white" if self.decoded.images.shape[-1] == 4 else ""
        key = f"{self.decoded.key}-{positions}{way}"
        real = cached_features(self._real_pixels(), extractor, key, self.cache_dir, self._asking("real"))
        return real, features_of(self.generated.split(self.batch_size), extractor, self._asking("features"))

    @staticmethod
    def _asking(what: str) -> Callable:
        """`ranks.divided`, of which the other processes are told."""

        def each(work: Callable, parts: Iterable) -> Iterator:
            ranks.from_first(what)
            return ranks.divided(work, parts)

        return each

    @cached_property
    def nearest(self) -> Nearest:
        """The two training images nearest to each generated one."""
        return two_nearest(self.generated, self.decoded)

    def spreads(self) -> dict[str, float]:
        """How far drawn images differ from one another, where some were drawn, and held-out ones."""
        if "generated" not in vars(self):
            return {}
        drawn = self.generated.split(self.batch_size)
        return {"spread": spread(drawn), "spread_held_out": spread(self._real_pixels())}

    @property
    def units(self) -> str:
        """What errors in the denoiser's space are in: its scale, or its name."""
        space = self.denoiser.space
        scale = [f"{float(value):.3g}" for value in space.std.flatten()] if isinstance(space, Pixels) else []
        return f"pixels / {', '.join(scale)}" if scale else getattr(space, "units", type(space).__name__)

    def conditions(self) -> dict:
        """What the figures so far depend on, as results.json has it."""
        said = {"real_images": len(self.held_out.positions), "held_out": self.decoded.held_out_key, "units": self.units}
        if "generated" in vars(self):
            said |= {"samples": self.samples, "network_calls": self.network_calls}
        if "features" in vars(self):
            extractor = {"feature_extractor": self.extractor.identity, "extractor_resolution": self.extractor.resolution}
            said |= {**extractor, "protocol": self.protocol}
        return said


def measure(scoring: Scoring, metrics: dict[str, Metric]) -> dict:
    """All figures, what they depend on, and under "figures" what they are. Processes beside the first help, for nothing."""
    if not ranks.is_first():
        scoring.help()
        return {}
    try:
        return _measured(scoring, metrics)
    finally:
        ranks.from_first()  # that nothing more is asked for


def _measured(scoring: Scoring, metrics: dict[str, Metric]) -> dict:
    known = figures_of(metrics)
    values = {}
    for metric in metrics.values():
        values |= metric(scoring)
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise Diverged(f"{key} is {value}: what was drawn, or the model, is too far from any image to be scored")
    declared = {key: figure.plain() for key, figure in known.items() if key in values}
    return {**values, **scoring.spreads(), **scoring.conditions(), "figures": declared}


def to_uint8(images: Tensor) -> Tensor:
    """Pixel values from 0 to 1 to 0..255, rounded."""
    return (images * 255).round().to(torch.uint8)
