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
        pool: others, which are made worse, and of which sets are taken.
        whole: as many and more, of which sets are taken whose images are as they were.
        images: in a set.
        sets: of each step.
    """

    real: int
    pool: int
    whole: int
    images: int
    sets: int


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
        A row a figure of a set: worsening ("" for none), step, figure, value, and `of`, how many images the set was drawn
        from.
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(decoded.train)[: sizes.whole]
    images, labels = torch.from_numpy(decoded.images[rows]).permute(0, 3, 1, 2), decoded.labels[rows]

    def extracted(images: Tensor) -> Tensor:
        return features_of(images.split(batch_size), extractor)

    real = extracted(torch.from_numpy(decoded.images[decoded.held_out[: sizes.real]]).permute(0, 3, 1, 2))
    whole, found = extracted(images), []

    def any_rows(features: Tensor) -> tuple[np.ndarray, int]:
        return random.choice(len(features), sizes.images, replace=False), len(features)

    def note(name: str, step: float, features: Tensor, choose: Callable[[Tensor], tuple[np.ndarray, int]]) -> None:
        for _ in range(sizes.sets):
            chosen, of = choose(features)
            values = figures(metrics, Compared((real, features[torch.from_numpy(chosen)]), seed))
            about = {"worsening": name, "step": step, "of": of}
            found.extend({**about, "figure": key, "value": value} for key, value in values.items())

    note("", 0.0, whole, any_rows)
    for name, worsening in worsenings.items():
        log.info("making images worse: %s", name)
        for step in worsening.steps:
            if worsening.choose:
                note(name, step, whole, lambda _, w=worsening, s=step: w.choose(labels, s, sizes.images, random))
            else:
                worse = worsening.image(images[: sizes.pool], labels[: sizes.pool], step, random)
                note(name, step, extracted(worse), any_rows)
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
