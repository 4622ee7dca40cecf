"""Verdicts on figures whose power is known."""

import math

import numpy as np
import pandas as pd
import pytest

from diffusion_lab.figures import COVERAGE, KID
from diffusion_lab.judging.figure import judge_figure
from diffusion_lab.judging.verdicts import SURE, sentences, verdicts

FIGURES = {"kid": KID, "coverage": COVERAGE}
STEPS = (0.4, 0.6, 0.9, 1.4)  # of blur


def values(rises, figure: str = "kid", worsening: str = "blur", repeats: int = 2000, of=10**9) -> pd.DataFrame:
    """A figure whose mean rises from 0 by so many deviations at each step, of sets that share no images."""
    random = np.random.default_rng(0)
    rows = [("", 0.0, value) for value in random.standard_normal(repeats)]
    for step, rise in zip(STEPS, rises, strict=True):
        rows += [(worsening, step, rise + value) for value in random.standard_normal(repeats)]
    return pd.DataFrame(rows, columns=["worsening", "step", "value"]).assign(figure=figure, of=of)


def test_the_smallest_step_seen_is_where_95_of_100_are_told():
    """Two sets differ by a normal variable of deviation sqrt(2): it takes 1.645 of those."""
    seen = math.sqrt(2) * SURE
    [row] = verdicts(values([1, 2, seen + 1, 9]), FIGURES, images=100).itertuples()
    assert row.smallest == pytest.approx(0.6 + 0.3 * (seen - 2) / (seen - 1), abs=0.015)
    assert row.low < row.smallest < row.high
    assert row.high - row.low < 0.05
    assert (row.rho, row.seen, row.reversed) == (1, 2, False)
    at_half = 2 + (seen - 1) * (0.7 - 0.6) / 0.3  # half of the largest step
    assert row.half_needs == pytest.approx(100 * (seen / at_half) ** 2, rel=0.05)


def test_sets_of_one_pool_vary_less_than_new_ones_would():
    """Half of the pool in each set: their variance is half of what it would be."""
    rises = [1, 2, 3, 9]
    apart = verdicts(values(rises), FIGURES, 100)["smallest"][0]
    shared = verdicts(values(np.array(rises) * math.sqrt(2), of=200), FIGURES, 100)["smallest"][0]
    assert shared == pytest.approx(apart, rel=0.02)


def test_a_figure_of_which_more_is_better_is_seen_to_fall():
    falling = verdicts(values([-3, -4, -5, -6], "coverage"), FIGURES, 100)
    rising = verdicts(values([3, 4, 5, 6], "coverage"), FIGURES, 100)
    assert (falling["seen"][0], falling["rho"][0], bool(falling["reversed"][0])) == (4, 1, False)
    assert (rising["seen"][0], rising["rho"][0], bool(rising["reversed"][0])) == (0, -1, True)
    assert math.isinf(rising["half_needs"][0])


def test_it_is_said_and_drawn():
    unseen = values([0, 0, 0, 0], worsening="noise").query("worsening == 'noise'")
    parts = [values([3, 4, 5, 6]), unseen, values([3, 4, 5, 6], "coverage", "JPEG")]
    found = verdicts(pd.concat(parts), FIGURES, 250)
    kid, coverage = sentences(found, FIGURES, "means")
    assert kid.startswith("KID of means, with 250 images, sees blur from 0.4 px or less. It does not")
    assert kid.endswith("see noise (0.2 of white).")
    assert coverage == "coverage of means, with 250 images, sees nothing. It takes for better: JPEG (quality 10)."
    panels = judge_figure(pd.concat([found.assign(data=data, extractor="means") for data in "abc"]), FIGURES).axes
    texts = [text.get_text() for text in panels[0].texts]
    assert "≤ 0.4 px" in texts
    assert "better" in texts
