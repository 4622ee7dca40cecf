"""The findings in sentences that a person can quote."""

from diffusion_lab.figures import KID, Figure
from diffusion_lab.reports import published
from diffusion_lab.reports.ranking import Ranking, level_text
from diffusion_lab.reports.statistics import (
    Effect,
    Interaction,
    Interval,
    RankCorrelation,
    effects,
    pooled_std,
    seeds_to_separate,
)

AGREES = 0.7  # a rank correlation
INTERVALS = (
    "Figures are mean ± standard deviation over seeds. Intervals are 95 %: Student's t over the seeds of a cell, or over "
    "the seeds' mean differences between pairs of runs that differ in one choice alone. "
    "Cells whose intervals overlap count as not separated by the data."
)


def spread(figure: Figure, interval: Interval) -> str:
    """`mean ± std`, or the mean alone of a single seed."""
    mean = figure.text(interval.mean)
    return mean if interval.n < 2 else f"{mean} ± {figure.text(interval.std)}"


def bounds(figure: Figure, interval: Interval) -> str:
    """`[low, high]`, or a dash."""
    return "–" if interval.n < 2 else f"[{figure.text(interval.low)}, {figure.text(interval.high)}]"


def conditions(measured_on: dict) -> str:
    """What the figures of a ranking depend on."""
    said = {key: value for key, value in measured_on.items() if value == value and value is not None}
    if "samples" not in said and "real_images" in said:  # nothing was drawn: classifiers
        return f"{said['data']} at {said.get('image_size', '?')} px; {said['real_images']:.0f} held-out images"
    if "feature_extractor" not in said:
        return f"{said.get('data', 'unknown data')}; an older results.json without the rest"
    return (
        f"{said['data']} at {said.get('image_size', '?')} px; {said['samples']:.0f} generated against "
        f"{said['real_images']:.0f} held-out images, {said['network_calls']:.0f} network calls; features of "
        f"{said['feature_extractor']} at {said['extractor_resolution']:.0f} px, protocol {said['protocol']}"
    )


def separation(ranking: Ranking) -> str:
    """Which cell is best, and which the data do not separate from it."""
    best, figure = ranking.cells[0], ranking.objective
    own, most = ranking.cells[0].figures[figure.key], "Lowest" if figure.less_is_better else "Highest"
    said = f"{most} {figure.label}: {best.label}, {figure.text(own.mean)}"
    if len(ranking.cells) == 1:
        return f"{said} (the only cell)."
    if own.n < 2:
        return f"{said}. One seed has no interval: the data separate no cells. Run several (seed=0,1,2)."
    close = ranking.unseparated(1)
    if not close:
        return f"{said} {bounds(figure, own)}. Its interval overlaps no other cell's."
    if len(close) == len(ranking.cells) - 1:
        return f"{said} {bounds(figure, own)}. The data do not separate it from any other cell."
    names = "; ".join(ranking.cells[rank - 1].label for rank in close)
    return f"{said} {bounds(figure, own)}. The data do not separate it from {names}."


def power(ranking: Ranking) -> str | None:
    """How many seeds would separate the best cell from the next one; None where they are separated, or where nothing is
    known of how seeds differ."""
    if len(ranking.cells) < 2 or 2 not in ranking.unseparated(1):
        return None
    key = ranking.objective.key
    first, second = (cell.figures[key] for cell in ranking.cells[:2])
    std, seeds = pooled_std(cell.figures[key] for cell in ranking.cells), min(first.n, second.n)
    if not std > 0:
        return None
    wanted = seeds_to_separate(second.mean - first.mean, std)
    between = f"if {ranking.cells[0].label} and {ranking.cells[1].label} differ as much as it seems"
    if wanted is None:
        return f"Even {between}, 100 seeds of each would not separate them: take them for equal."
    more = max(wanted - seeds, 1)
    return f"{more} more seed{'s' if more > 1 else ''} of each would separate them in 4 of 5 cases, {between}."


def spread_from(ranking: Ranking, image_error: float) -> str | None:
    """Whether seeds or the number of images make a figure uncertain; None where one of them is not known.

    Args:
        image_error: the mean standard error of one run's figure from its images.
    """
    figure = ranking.objective
    seeds = pooled_std(cell.figures[figure.key] for cell in ranking.cells)
    if not (seeds > 0 and image_error > 0):
        return None
    said = (
        f"{figure.label} differs from seed to seed by {figure.text(seeds)} (standard deviation within a cell); other images "
        f"of the same model would change it by {figure.text(image_error)}"
    )
    if image_error**2 > seeds**2 / 2:
        return f"{said}: images dominate, so a larger metrics.samples would help."
    return f"{said}: training dominates, so more seeds would help, and more images would not."


def agreement(objective: Figure, others: dict[Figure, RankCorrelation]) -> str:
    """Whether other figures put the runs in the same order."""

    def listed(chosen: list[Figure]) -> str:
        return ", ".join(f"{figure.label} ({others[figure].rho:.2f})" for figure in chosen)

    runs = next(iter(others.values())).n
    agree = [figure for figure, found in others.items() if found.rho >= AGREES]
    against = [figure for figure, found in others.items() if found.rho <= 0]
    between = [figure for figure in others if figure not in (*agree, *against)]
    kinds = {"much the same": agree, "somewhat different": between, "another altogether": against}
    parts = [f"{kind} by {listed(chosen)}" for kind, chosen in kinds.items() if chosen]
    said = f"Beside {objective.label}'s, the order of {runs} runs (Spearman's rho) is "
    verdict = "" if len(agree) == len(others) else " Where judges differ, look at the samples, and at docs/which_metric.md."
    return f"{said}{'; '.join(parts)}.{verdict}"


def effect(found: Effect, figure: Figure, against: dict[str, list] | None = None) -> str:
    """One effect: who beats whom, by how much, how sure; it is the other way round beside the levels in `against`."""
    d, sign = found.difference, 1
    worse, better = level_text(found.factor, found.first), level_text(found.factor, found.second)
    if (d.mean > 0) == figure.less_is_better:
        worse, better, sign = better, worse, -1
    sign = -sign if figure.less_is_better else sign
    low, high = sorted((sign * d.low, sign * d.high))
    by = figure.text(abs(d.mean))
    by += f" [{figure.text(low)}, {figure.text(high)}] ({freedom(d)})" if d.n > 1 else ", without an interval,"
    by += f" over {found.pairs} pair{'s' if found.pairs > 1 else ''} ({found.factor})"
    if against:
        levels = " or ".join(level_text(other, level) for other, each in against.items() for level in each)
        by += f", on average over {' and '.join(against)}; with {levels} it is the other way round"
    if figure.text(abs(d.mean)) == figure.text(0.0) and not d.excludes(0):
        return f"{worse} and {better} are alike on {figure.label}: the difference is {by}"
    if d.excludes(0):
        return f"{better} beats {worse} on {figure.label} by {by}"
    which = "lower" if figure.less_is_better else "higher"
    return f"{better} and {worse} are not separated on {figure.label}: {better} is {which} by {by}"


def freedom(interval: Interval) -> str:
    """How much an interval's width is known by."""
    return f"{interval.n - 1} degree{'s' if interval.n > 2 else ''} of freedom"


def interaction(found: Interaction, figure: Figure) -> str:
    """One interaction: how much more (or less) a choice changes a figure beside another choice."""
    first, second = level_text(found.factor, found.first), level_text(found.factor, found.second)
    other_first, other_second = level_text(found.other, found.other_first), level_text(found.other, found.other_second)
    d = found.difference
    sure = "" if d.excludes(0) else "; the interval includes none at all"
    return (
        f"{found.factor} × {found.other}: from {first} to {second} {figure.label} changes by {d.mean:+.4f} "
        f"{bounds(figure, d)} ({freedom(d)}) more with {other_second} than with {other_first}, "
        f"over {found.fours} fours of runs{sure}"
    )


def order(correlation: RankCorrelation) -> str:
    """How far our order of cells is the published one."""
    low, high = correlation.low, correlation.high
    interval = f"[{low:.2f}, {high:.2f}]" if low == low else "(no interval)"
    return (
        f"Rank correlation of our mean KIDs with the published ones: Spearman's rho {correlation.rho:.2f} {interval} "
        f"over {correlation.n} cells (interval: Fisher's z after Bonett and Wright 2000)."
    )


def claims(data: str, ours: list[Effect]) -> list[str]:
    """For each factor, what the published table says over its pairs of cells, and whether our runs agree."""
    theirs = {e.factor: e for e in effects(published.table(data), published.FACTORS, [], "kid")}
    said = []
    for found in ours:
        claim = theirs[found.factor]
        sign = 1 if (found.first, found.second) == (claim.first, claim.second) else -1
        wins = "better" if claim.difference.mean * sign < 0 else "worse"
        if not found.difference.excludes(0):
            verdict = "not separated"
        else:
            verdict = "holds" if found.difference.mean * claim.difference.mean * sign > 0 else "does not hold"
        sure = "" if claim.difference.excludes(0) else ", not separated by its own pairs"
        said.append(
            f"Published: {found.second} is {wins} than {found.first} by {abs(claim.difference.mean):.3f} on average over "
            f"{claim.pairs} pairs of cells{sure}. Here: {verdict} ({effect(found, KID)})."
        )
    return said
