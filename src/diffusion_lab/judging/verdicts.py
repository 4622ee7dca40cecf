"""What a trial says of each metric: whether it rises with every step, and from which step on it is sure to."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from diffusion_lab.figures import Figure
from diffusion_lab.judging.worsenings import WORSENINGS, Worsening

SURE = norm.ppf(0.95)  # how often a worse set is to be told from one that is not
DRAWINGS = 500  # of the bootstrap


def verdicts(values: pd.DataFrame, figures: dict[str, Figure], images: int) -> pd.DataFrame:
    """One row for each figure and worsening.

    A step is *seen* where a set of `images` worse ones is told, by the figure, from a set of whole ones in 95 of 100 cases:
    the difference of the means is 1.645 deviations of the difference of two such sets. Sets drawn from the same images share
    some, so their variance is divided by 1 - images / of (at least 0.1).

    Args:
        values: of `trial`.

    Returns:
        figure, worsening, images; rho (Spearman's, of the mean against the step: 1 is a figure that gets worse with every
        step); smallest (the step from which on all are seen, between steps by a straight line; the first stands for what is
        less, infinity for more than the largest), low and high (its 95 % interval, of a bootstrap over the sets); seen (how
        many of the steps); reversed (whether the largest step is taken for better, as surely); half_needs (images in a set
        that it takes to see half of the largest step, as the deviation falls with their root; infinity where more images do
        not help).
    """
    found = []
    random = np.random.default_rng(0)
    for (key, name), rows in values[values["worsening"] != ""].groupby(["figure", "worsening"], sort=False):
        sign = 1 if figures[key].less_is_better else -1
        whole = values[(values["worsening"] == "") & (values["figure"] == key)]["value"].to_numpy()
        steps = np.array(sorted(rows["step"].unique()))
        sets = sign * np.stack([whole, *(rows[rows["step"] == step]["value"].to_numpy() for step in steps)])
        of = np.array([values["of"].iloc[0], *rows.groupby("step")["of"].first().loc[steps]])
        scale = 1 / np.maximum(1 - images / of, 0.1)
        surely = _surely(sets, scale)
        smallest = _smallest(steps, surely)
        drawn = random.integers(0, sets.shape[1], (DRAWINGS, *sets.shape))
        bounds = [_smallest(steps, each) for each in _surely(np.take_along_axis(sets[None], drawn, 2), scale)]
        half = float(np.interp(steps[-1] / 2, [0, *steps], [0, *surely]))
        found.append(
            {
                "figure": key,
                "worsening": name,
                "images": images,
                "rho": round(float(spearmanr(range(len(sets)), sets.mean(1)).statistic), 6),
                "smallest": smallest,
                "low": float(np.quantile(bounds, 0.025, method="lower")),
                "high": float(np.quantile(bounds, 0.975, method="higher")),
                "seen": int((steps >= smallest).sum()),
                "reversed": bool(surely[-1] <= -SURE),
                "half_needs": math.ceil(images * (SURE / half) ** 2) if half > 0 else math.inf,
            }
        )
    return pd.DataFrame(found)


def _surely(sets: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """How many deviations each step is worse than none, (..., S), of values (..., 1 + S, R) of which more is worse."""
    mean, variance = sets.mean(-1), sets.var(-1, ddof=1) * scale
    deviation = np.sqrt(variance[..., 1:] + variance[..., :1])
    return (mean[..., 1:] - mean[..., :1]) / np.maximum(deviation, 1e-12)


def _smallest(steps: np.ndarray, surely: np.ndarray) -> float:
    """The step from which on all are seen."""
    if surely[-1] < SURE:
        return math.inf
    first = len(steps) - int(np.argmax([*(surely[::-1] < SURE), True]))  # the first of those that are all seen
    if first == 0:
        return float(steps[0])
    return float(np.interp(SURE, surely[first - 1 : first + 1], steps[first - 1 : first + 1]))


def sentences(
    found: pd.DataFrame, figures: dict[str, Figure], extractor: str, worsenings: Mapping[str, Worsening] = WORSENINGS
) -> Iterator[str]:
    """What each figure sees, and what not."""
    for key, rows in found.groupby("figure", sort=False):
        images, seen, unseen, wrong = int(rows["images"].iloc[0]), [], [], []
        for row in rows.itertuples():
            worsening = worsenings[row.worsening]
            if row.smallest < math.inf:
                high = worsening.number(row.high) if row.high < math.inf else "never"
                bounds = f" [{worsening.number(row.low)}, {high}]" if row.high > worsening.steps[0] else ""
                least = " or less" if row.smallest <= worsening.steps[0] else ""
                seen.append(f"{row.worsening} from {worsening.text(row.smallest)}{least}{bounds}")
            else:
                (wrong if row.reversed else unseen).append(f"{row.worsening} ({worsening.text(worsening.steps[-1])})")
        said = f"{figures[key].label} of {extractor}, with {images} images, sees {'; '.join(seen) or 'nothing'}"
        said += f". It does not see {', '.join(unseen)}" if unseen else ""
        said += f". It takes for better: {', '.join(wrong)}" if wrong else ""
        yield f"{said}."
