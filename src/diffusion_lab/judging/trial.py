"""What metrics say of real images made worse in known steps."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from diffusion_lab.data.cache import Decoded
from diffusion_lab.errors import UserError
from diffusion_lab.judging.worsenings import Worsening
from diffusion_lab.metrics.features import features_of
from diffusion_lab.metrics.scoring import Metric, figures_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """What a metric sees in the place of a `Scoring`: features of real images, and of those that are judged."""

    features: tuple[Tensor, Tensor]
    seed: int


@dataclass(frozen=True)
class Sizes:
    """How many images.

    Attributes:
        real: held-out ones, that others are compared with.
        pool: others, of which sets are taken; worsened ones too.
        images: in a set.
        repeats: sets of each step.
    """

    real: int
    pool: int
    images: int
    repeats: int


def trial(
    decoded: Decoded,
    extractor: nn.Module,
    metrics: dict[str, Metric],
    worsenings: dict[str, Worsening],
    sizes: Sizes,
    seed: int,
    batch_size: int = 100,
) -> pd.DataFrame:
    """Every metric's figures of sets of real images, whole and made worse, against held-out ones.

    The sets are of training images, for held-out ones are what a model's images are compared with, too. Those of a step are
    drawn without putting back, so two of them share images.

    Returns:
        A row a figure of a set: worsening ("" for none), step, figure, value.
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(decoded.train)[: sizes.pool]
    pixels, labels = torch.from_numpy(decoded.images[rows]).permute(0, 3, 1, 2), decoded.labels[rows]

    def extracted(images: Tensor) -> Tensor:
        return features_of(images.split(batch_size), extractor)

    real = extracted(torch.from_numpy(decoded.images[decoded.held_out[: sizes.real]]).permute(0, 3, 1, 2))
    whole, found = extracted(pixels), []

    def note(name: str, step: float, features: Tensor, choose: Callable[[], np.ndarray]) -> None:
        for _ in range(sizes.repeats):
            values = figures(metrics, Compared((real, features[torch.from_numpy(choose())]), seed))
            found.extend({"worsening": name, "step": step, "figure": key, "value": value} for key, value in values.items())

    def any_rows() -> np.ndarray:
        return random.choice(len(pixels), sizes.images, replace=False)

    note("", 0.0, whole, any_rows)
    for name, worsening in worsenings.items():
        log.info("making images worse: %s", name)
        for step in worsening.steps:
            features = extracted(worsening.image(pixels, labels, step, random)) if worsening.image else whole
            worse = any_rows
            if worsening.choose:
                worse = lambda worsening=worsening, step=step: worsening.choose(labels, step, sizes.images, random)  # noqa: E731
            note(name, step, features, worse)
    return pd.DataFrame(found)


def figures(metrics: dict[str, Metric], compared: Compared) -> dict[str, float]:
    """The declared figures of all metrics, by key.

    Raises:
        UserError: a metric looks at more than features.
    """
    values = {}
    for name, metric in metrics.items():
        try:
            values |= metric(compared)
        except AttributeError as error:
            raise UserError(
                f"metrics.figures.{name} looks at more than features ({error}), so it is not judged here"
            ) from error
    return {key: values[key] for key in figures_of(metrics) if key in values}
