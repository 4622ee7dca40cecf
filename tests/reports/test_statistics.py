"""Against scipy, and against data made with a known effect."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diffusion_lab.reports.statistics import (
    effect,
    effects,
    interactions,
    pooled_std,
    rank_correlation,
    seeds_to_separate,
    t_interval,
)

LEVELS = {"loss": ("mae", "mse"), "schedule": ("cosine", "linear")}


def made(rng, schedule: float = 0.0, loss: float = 0.0, both: float = 0.0, seeds: int = 6, noise: float = 0.01):
    """A full grid; each seed moves all its runs alike by far more than the noise, which pairing must take out."""
    rows = []
    for seed in range(seeds):
        level = 0.3 * rng.standard_normal()
        for i, a in enumerate(LEVELS["loss"]):
            for j, b in enumerate(LEVELS["schedule"]):
                kid = 1 + level + loss * i + schedule * j + both * i * j + noise * rng.standard_normal()
                rows.append({"loss": a, "schedule": b, "seed": seed, "kid": kid})
    return pd.DataFrame(rows)


def test_interval_is_scipys():
    values = np.random.default_rng(0).standard_normal(7)
    ours, theirs = t_interval([*values, np.nan]), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert (ours.mean, ours.std, ours.n) == pytest.approx((values.mean(), np.std(values, ddof=1), 7))


@pytest.mark.parametrize("values", [[], [0.3]])
def test_no_interval_below_two_values(values):
    interval = t_interval(values)
    assert interval.n == len(values)
    assert np.isnan([interval.std, interval.low, interval.high]).all()
    assert not interval.excludes(0)
    assert interval.overlaps(t_interval([100.0, 101.0]))  # so nothing is separated from it


def test_effect_is_scipys_paired_test():
    runs = made(np.random.default_rng(1), schedule=0.05)
    ours = effect(runs, "schedule", "cosine", "linear", ["loss", "seed"], "kid")
    wide = runs.pivot(index=["loss", "seed"], columns="schedule", values="kid")
    by_seed = wide.groupby("seed").mean()
    theirs = stats.ttest_rel(by_seed["linear"], by_seed["cosine"]).confidence_interval(0.95)
    assert (ours.difference.low, ours.difference.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert (ours.difference.n, ours.pairs) == (6, 12)


@pytest.mark.parametrize("interaction", [0.0, 0.5, 1.0])
def test_intervals_cover_where_a_seed_suits_one_choice_more_than_another(interaction):
    """As pairs that count as independent do not: 88 and 77 of 100 at interactions of 0.5 and 1 residual deviations."""
    rng, covered = np.random.default_rng(7), []
    factors = {"loss": ("mae", "mse"), "schedule": ("cosine", "linear"), "target": ("noise", "image")}
    for _ in range(400):
        rows = []
        for seed in range(3):
            suits = {level: interaction * rng.standard_normal() for levels in factors.values() for level in levels}
            for levels in itertools.product(*factors.values()):
                kid = 0.4 * (levels[0] == "mse") + sum(suits[level] for level in levels) + rng.standard_normal()
                rows.append({**dict(zip(factors, levels, strict=True)), "seed": seed, "kid": kid})
        found = effect(pd.DataFrame(rows), "loss", "mae", "mse", ["schedule", "target", "seed"], "kid")
        assert (found.pairs, found.difference.n) == (12, 3)
        covered.append(found.difference.low <= 0.4 <= found.difference.high)
    assert 0.925 < np.mean(covered) < 0.975


def test_a_known_effect_is_found_with_its_interval_and_no_effect_is_not():
    covered, found, false_alarms = [], [], []
    for trial in range(300):
        runs = made(np.random.default_rng(trial), schedule=0.02)
        by_factor = {each.factor: each.difference for each in effects(runs, ["loss", "schedule"], ["seed"], "kid")}
        covered.append(by_factor["schedule"].low <= 0.02 <= by_factor["schedule"].high)
        found.append(by_factor["schedule"].low > 0)
        false_alarms.append(by_factor["loss"].excludes(0))
    assert 0.92 < np.mean(covered) < 0.98
    assert np.mean(found) > 0.95
    assert 0.02 < np.mean(false_alarms) < 0.08


def test_only_runs_that_differ_in_one_factor_alone_and_share_the_seed_are_paired():
    runs = made(np.random.default_rng(2))
    runs = runs.drop(runs[(runs["loss"] == "mae") & (runs["schedule"] == "cosine") & (runs["seed"] < 4)].index)
    by_factor = {each.factor: each.pairs for each in effects(runs, ["loss", "schedule"], ["seed"], "kid")}
    assert by_factor == {"loss": 6 + 2, "schedule": 6 + 2}
    diagonal = runs[(runs["loss"] == "mae") == (runs["schedule"] == "cosine")]
    assert effects(diagonal, ["loss", "schedule"], ["seed"], "kid") == []


def test_a_missing_figure_drops_its_pair():
    runs = made(np.random.default_rng(3))
    runs.loc[0, "kid"] = np.nan
    assert effect(runs, "schedule", "cosine", "linear", ["loss", "seed"], "kid").pairs == 11


def test_many_levels_are_compared_with_the_best():
    rows = [{"steps": s, "seed": seed, "kid": abs(s - 8) + seed / 10} for s in (2, 4, 8, 16, 32) for seed in (0, 1)]
    found = effects(pd.DataFrame(rows), ["steps"], ["seed"], "kid")
    assert {(each.first, each.second) for each in found} == {(2, 8), (4, 8), (16, 8), (32, 8)}


def test_interaction_is_a_difference_of_differences():
    runs = made(np.random.default_rng(4), schedule=0.1, loss=0.2, both=0.07)
    (found,) = interactions(runs, ["loss", "schedule"], ["seed"], "kid")
    wide = runs.pivot(index="seed", columns=["loss", "schedule"], values="kid")
    change = (wide["mse", "linear"] - wide["mae", "linear"]) - (wide["mse", "cosine"] - wide["mae", "cosine"])
    theirs = stats.ttest_1samp(change, 0).confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert found.difference.low < 0.07 < found.difference.high
    (none,) = interactions(made(np.random.default_rng(5), schedule=0.1, loss=0.2), ["loss", "schedule"], ["seed"], "kid")
    assert not none.difference.excludes(0)


def test_rank_correlation_is_scipys_and_its_interval_covers():
    rng, r = np.random.default_rng(6), 0.6
    true = 6 / np.pi * np.arcsin(r / 2)  # Spearman's rho of a bivariate normal with correlation r
    covered = []
    for _ in range(400):
        x = rng.standard_normal(25)
        y = r * x + np.sqrt(1 - r**2) * rng.standard_normal(25)
        found = rank_correlation(x, y)
        covered.append(found.low <= true <= found.high)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert 0.92 < np.mean(covered) < 0.98
    assert np.isnan(rank_correlation([1, 2, 3], [1, 3, 2]).low)
    assert np.isnan(rank_correlation(range(8), range(8)).low)


def test_the_deviation_within_cells_is_that_of_the_residuals():
    cells = [np.array([1.0, 2.0, 4.0]), np.array([10.0, 11.0]), np.array([5.0])]
    residuals = np.concatenate([cell - cell.mean() for cell in cells])
    assert pooled_std(map(t_interval, cells)) == pytest.approx(np.sqrt((residuals**2).sum() / 3))
    assert np.isnan(pooled_std([t_interval([1.0])]))


@pytest.mark.parametrize("difference", [0.5, 1.0, 2.0])
def test_so_many_seeds_separate_two_cells_in_four_of_five_cases(difference):
    """Tried on cells that are made: intervals by SciPy."""
    seeds, rng = seeds_to_separate(difference, 0.4), np.random.default_rng(0)

    def separated(n: int) -> float:
        first, second = (rng.normal(mean, 0.4, (4000, n)) for mean in (0, difference))
        half = [stats.t.ppf(0.975, n - 1) * each.std(1, ddof=1) / np.sqrt(n) for each in (first, second)]
        return (second.mean(1) - half[1] > first.mean(1) + half[0]).mean()

    assert separated(seeds) > 0.75
    assert separated(seeds - 1) < 0.82
    assert seeds_to_separate(0.001, 0.4) is None
