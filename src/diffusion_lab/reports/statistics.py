"""How sure one can be: intervals over seeds, effects over pairs of runs, interactions, rank correlation."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
POWER = stats.norm.ppf(0.8)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval by Student's t, n - 1 degrees of freedom; low and high are NaN where n < 2."""

    mean: float
    std: float
    low: float
    high: float
    n: int

    def excludes(self, value: float) -> bool:
        return self.low > value or self.high < value  # NaN excludes nothing

    def overlaps(self, other: "Interval") -> bool:
        """Whether the data leave the two unseparated; always so where one has no interval."""
        return not (self.low > other.high or self.high < other.low)


def t_interval(values) -> Interval:
    """Mean, standard deviation (n - 1) and 95 % t interval of independent values; NaN among them are left out."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n < 2:
        return Interval(float(values[0]) if n else np.nan, np.nan, np.nan, np.nan, n)
    mean, std = values.mean(), values.std(ddof=1)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * std / np.sqrt(n)
    return Interval(float(mean), float(std), float(mean - half), float(mean + half), n)


@dataclass(frozen=True)
class Effect:
    """What changing one factor does to a metric: `difference` is second minus first, over `pairs` of runs.

    `difference.n` values are behind the interval: the seeds, where the pairs have them.
    """

    factor: str
    first: object
    second: object
    metric: str
    difference: Interval
    pairs: int


@dataclass(frozen=True)
class Interaction:
    """How the effect of one factor changes with another: a difference of two differences.

    `difference` is (effect of first -> second at `other_second`) minus (the same at `other_first`), over `fours` of runs.
    """

    factor: str
    first: object
    second: object
    other: str
    other_first: object
    other_second: object
    metric: str
    difference: Interval
    fours: int


def effect(runs: pd.DataFrame, factor: str, first, second, alike: list[str], metric: str) -> Effect:
    """The effect of `first` -> `second` on `metric`, from pairs of runs that are equal in all columns `alike`.

    Pairing takes out what both runs of a pair share (the other choices, and the seed), so its interval is about the
    choice alone. A seed that suits one of the two moves all pairs of that seed alike, so they do not count as independent:
    they are averaged first, and the interval is over the seeds' means.
    """
    differences = _differences(runs, factor, first, second, alike, metric)
    return Effect(factor, first, second, metric, t_interval(_seeds_means(differences)), len(differences))


def effects(
    runs: pd.DataFrame, factors: list[str], alike: list[str], metric: str, most: int = 4, less_is_better: bool = True
) -> list[Effect]:
    """Effects of each factor: all pairs of its levels, or from `most` levels on, each against the best one.

    Args:
        runs: one row a run, with columns `factors`, `alike` (what pairs must share besides the other factors) and `metric`.
    """
    found = []
    for factor in factors:
        others = [other for other in factors if other != factor] + alike
        levels = list(dict.fromkeys(runs[factor].dropna()))
        pairs = list(combinations(levels, 2))
        if len(levels) > most:
            means = runs.groupby(factor)[metric].mean()
            best = means.idxmin() if less_is_better else means.idxmax()
            pairs = [(level, best) for level in levels if level != best]
        found += [effect(runs, factor, first, second, others, metric) for first, second in pairs]
    return [effect for effect in found if effect.difference.n]


def reversals(runs: pd.DataFrame, found: Effect, factors: list[str], alike: list[str]) -> dict[str, list]:
    """The levels of each other factor at which an effect has the opposite sign, on average over what else differs; `factors`
    and `alike` are those of `effects`."""
    others = [factor for factor in factors if factor != found.factor]
    differences = _differences(runs, found.factor, found.first, found.second, others + alike, found.metric)
    against = {}
    for other in others:
        means = differences.groupby(level=other, sort=False).mean()
        against[other] = list(means.index[means * found.difference.mean < 0])
    return {other: levels for other, levels in against.items() if levels}


def interactions(runs: pd.DataFrame, factors: list[str], alike: list[str], metric: str) -> list[Interaction]:
    """All two-factor interactions of levels, the largest first; only those over at least two seeds."""
    found = []
    for factor, other in combinations(factors, 2):
        shared = [name for name in factors if name not in (factor, other)] + alike
        for first, second in combinations(dict.fromkeys(runs[factor].dropna()), 2):
            at = _differences(runs, factor, first, second, [other, *shared], metric)
            for other_first, other_second in combinations(dict.fromkeys(runs[other].dropna()), 2):
                change = _differences(at.reset_index(), other, other_first, other_second, shared, metric)
                interval = t_interval(_seeds_means(change))
                if interval.n > 1:
                    levels = (factor, first, second, other, other_first, other_second)
                    found.append(Interaction(*levels, metric, interval, len(change)))
    return sorted(found, key=lambda each: -abs(each.difference.mean))


def _differences(runs: pd.DataFrame, factor: str, first, second, alike: list[str], metric: str) -> pd.Series:
    """`metric` at `second` minus at `first`, for each combination of `alike` that has both; repeats are averaged."""
    means = runs.dropna(subset=[metric]).groupby([factor, *alike], dropna=False)[metric].mean()
    levels = means.index.get_level_values(factor).unique()
    if first not in levels or second not in levels:
        return means.iloc[:0].droplevel(factor) if alike else means.iloc[:0]
    if not alike:
        return pd.Series([means[second] - means[first]], name=metric)
    return (means.xs(second, level=factor) - means.xs(first, level=factor)).dropna().rename(metric)


def _seeds_means(differences: pd.Series) -> pd.Series:
    """The mean of each seed's differences, where they are told by seed."""
    return differences.groupby(level="seed").mean() if "seed" in differences.index.names else differences


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of n pairs, with a 95 % interval (Bonett and Wright 2000, Psychometrika 65, eq. 6)."""

    rho: float
    low: float
    high: float
    n: int


def rank_correlation(first, second) -> RankCorrelation:
    """Spearman's rank correlation of two sequences; without an interval for n < 4, or where the orders agree wholly.

    The interval is Fisher's z with standard error sqrt((1 + rho^2 / 2) / (n - 3)).
    """
    rho, n = float(stats.spearmanr(first, second).statistic) if len(first) > 1 else np.nan, len(first)
    if n < 4 or not abs(rho) < 1 - 1e-12:
        return RankCorrelation(rho, np.nan, np.nan, n)
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = np.tanh([np.arctanh(rho) - half, np.arctanh(rho) + half])
    return RankCorrelation(rho, float(low), float(high), n)


def pooled_std(intervals: Iterable[Interval]) -> float:
    """The standard deviation within cells, of all their values together; NaN where none has two."""
    found = [(each.n - 1, each.std) for each in intervals if each.n > 1]
    freedom = sum(n for n, _ in found)
    return float(np.sqrt(sum(n * std**2 for n, std in found) / freedom)) if freedom else np.nan


def seeds_to_separate(difference: float, std: float, most: int = 100) -> int | None:
    """How many seeds each of two cells needs so that their 95 % intervals do not overlap in 4 of 5 cases; None for more than
    `most`.

    Args:
        difference: of their true means.
        std: from seed to seed, the same in both.
    """
    for n in range(2, most + 1):
        apart = abs(difference) - 2 * stats.t.ppf((1 + LEVEL) / 2, n - 1) * std / np.sqrt(n)
        if apart >= POWER * std * np.sqrt(2 / n):
            return n
    return None
