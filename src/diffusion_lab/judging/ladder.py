"""A training's checkpoints as a ladder: which metric gets better with each of them, as held-out errors do?"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.data.cache import Decoded
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.figures import Figure
from diffusion_lab.hardware import Machine
from diffusion_lab.judging.trial import Compared, Sizes, figures
from diffusion_lab.judging.worsenings import Worsening
from diffusion_lab.metrics.errors import measure_errors
from diffusion_lab.metrics.labels import measure_labels
from diffusion_lab.metrics.scoring import Metric
from diffusion_lab.sampling.drawing import drawing
from diffusion_lab.tasks.denoiser import scoring

NAME = "shorter training"
SEED = 0  # of the sets
FEWEST = 3  # checkpoints: of two any figure has risen or fallen

log = logging.getLogger(__name__)


def rungs(files: Sequence[Path], trusted: Sequence[str]) -> dict[float, Path]:
    """The file of each checkpoint, by the share of the longest training's steps that it lacks, the longest first.

    Raises:
        UserError: one cannot be read, is of other images, or they are too few.
    """
    found, data = {}, None
    for file in files:
        checkpoint = load_checkpoint(file, trusted)
        theirs = {key: checkpoint.config["data"].get(key) for key in ("name", "image_size", "channels")}
        data = data or theirs
        if theirs != data:
            raise UserError(f"ladder: {file} is of other images than the first: {theirs}, not {data}")
        if "global_step" not in checkpoint.state:
            raise UserError(f"ladder: {file} does not say how long it was trained: give a run's .ckpt files")
        found[checkpoint.state["global_step"]] = file
    if len(found) < FEWEST:
        raise UserError(
            f"ladder: there are {len(found)} of different lengths, and a ladder wants {FEWEST}: train with "
            "checkpoints.keep_every_epochs=1, or give a list of files"
        )
    last = max(found)
    return {1 - steps / last: found[steps] for steps in sorted(found, reverse=True)}


def climb(
    ladder: Mapping[float, Path],
    asked: Callable[[dict], dict],
    decoded: Decoded,
    metrics: dict[str, Metric],
    sizes: Sizes,
    machine: Machine,
    trusted: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every metric's figures of sets of images that each checkpoint draws, against held-out ones.

    Args:
        ladder: from `rungs`.
        asked: a checkpoint's config to the one that it is to draw and be scored by.
        sizes: of which `pool` images are drawn.

    Returns:
        What `trial` returns, the longest training being no worsening; and of each checkpoint, as step, figure and value,
        its held-out errors, and with metrics.classifier the share of its images that are read as asked for.
    """
    random = np.random.default_rng(SEED)
    sets, beside = [], []
    for step, file in ladder.items():
        log.info("checkpoint   %s", file)
        checkpoint = load_checkpoint(file, trusted)
        config = asked(checkpoint.config)
        config = {**config, "metrics": {**config["metrics"], "samples": sizes.pool}}
        ready = drawing(config, checkpoint.model(Denoiser), machine, trusted)
        scored = scoring(config, ready, decoded, trusted)
        real, drawn = scored.features
        for _ in range(sizes.sets):
            chosen = random.choice(len(drawn), sizes.images, replace=False)
            values = figures(metrics, Compared((real[: sizes.real], drawn[chosen]), SEED))
            about = {"worsening": NAME if step else "", "step": step, "of": len(drawn)}
            sets.extend({**about, "figure": key, "value": value} for key, value in values.items())
        values = measure_errors(scored) | measure_labels(scored, config["metrics"]["classifier"])
        values.pop("real_label_accuracy", None)  # which is the same for each
        beside.extend({"step": step, "figure": key, "value": value} for key, value in values.items())
    return pd.DataFrame(sets), pd.DataFrame(beside)


def as_worsening(ladder: Mapping[float, Path]) -> Worsening:
    """What `sentences` says of it."""
    return Worsening(tuple(step for step in ladder if step), "{} fewer steps", "{:.0%}".format)


def sentences_beside(beside: pd.DataFrame, known: dict[str, Figure]) -> Iterator[str]:
    """Whether held-out errors, and what a classifier reads, get better with training."""
    for key, rows in beside.groupby("figure", sort=False):
        figure, rows = known[key], rows.sort_values("step", ascending=False)
        sign = -1 if figure.less_is_better else 1
        rho = spearmanr(-rows["step"], sign * rows["value"]).statistic
        first, last = (figure.text(rows["value"].iloc[at]) for at in (0, -1))
        yield f"{figure.label} goes from {first} to {last} with training: it gets better with a rho of {rho:.2f}."
