"""The report of a comparison: what it says, as sections; how it is written is `render`'s subject."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import FID, FIGURES, KID
from diffusion_lab.reports import figures, published, sentences
from diffusion_lab.reports.collect import Collection, collect
from diffusion_lab.reports.ranking import Cell, Ranking, comparable, level_text, rankings
from diffusion_lab.reports.statistics import effects, interactions, rank_correlation, reversals

MOST_LEVELS = 4  # factors with more, such as a searched learning rate, get a picture rather than pairs of levels
LISTED = 3  # interactions
FEWEST_RANKED = 4  # runs: of fewer, orders agree by chance


@dataclass(frozen=True)
class Section:
    """A heading, sentences, then a table and a picture where there is one. `brief`: the table is for the files alone;
    `links`: files to be opened, by name."""

    title: str
    sentences: list[str] = field(default_factory=list)
    table: pd.DataFrame | None = None
    picture: Figure | None = None
    brief: bool = False
    links: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Sections in the order of reading, and every figure of every cell as one table."""

    title: str
    sections: list[Section]
    cells: pd.DataFrame


def report(runs: Iterable[Run], objective: str, title: str, with_pictures: bool = True) -> Report:
    """Put `runs` side by side; cells are ranked by `objective`, the key of a figure."""
    collection = collect(runs)
    ranked = rankings(collection, objective)
    several = [ranking for ranking in ranked if len(ranking.cells) > 1]
    sections = [_summary(collection), *_alarms(collection)]
    for i, ranking in enumerate(several, start=1):
        which = f" ({i} of {len(several)})" if len(several) > 1 else ""
        sections += [_ranking_section(collection, ranking, which), *_effect_sections(collection, ranking, which)]
        sections += _agreement_sections(collection, ranking, which)
        sections += _published_sections(collection, ranking, which)
    sections += _single_sections([ranking for ranking in ranked if ranking not in several], len(ranked))
    if with_pictures and ranked:
        sections += _picture_sections(collection, ranked)
    sections += [*_pages(collection), *_left_out(collection, objective)]
    return Report(title, sections, _cells(ranked))


def _summary(collection: Collection) -> Section:
    states = collection.runs["status"].value_counts()
    said = [f"{len(collection.runs)} runs: " + ", ".join(f"{count} {state}" for state, count in states.items()) + "."]
    if collection.choices:
        shared = ", ".join(f"{group} {word}" for group, word in collection.choices.items())
        said.append(f"The same in all: {shared}.")
    for factor, others in collection.changed_together.items():
        said.append(f"Never changed without {factor}, so not told apart from it: {', '.join(others)}.")
    return Section("Runs", [*said, sentences.INTERVALS])


def _alarms(collection: Collection) -> list[Section]:
    """What runs warned of."""
    results = {run["name"]: Run(Path(folder)).results() for folder, run in collection.finished.iterrows()}
    alarms = {name: found.get("alarms") for name, found in results.items()}
    said = [f"{name}: {alarm}." for name, each in alarms.items() if isinstance(each, list) for alarm in each]
    return [Section("Alarms", said)] if said else []


def _ranking_section(collection: Collection, ranking: Ranking, which: str) -> Section:
    said = [f"Measured on {sentences.conditions(ranking.measured_on)}.", sentences.separation(ranking)]
    errors = comparable(collection, ranking)[f"{ranking.objective.key}_image_error"]
    said += [each for each in (sentences.power(ranking), sentences.spread_from(ranking, errors.mean())) if each]
    return Section(f"Ranking by {ranking.objective.label}{which}", said, _ranking_table(ranking))


def _single_sections(singles: list[Ranking], rankings_in_all: int) -> list[Section]:
    """Cells that nothing else was measured like."""
    if not singles:
        return []
    if rankings_in_all == 1:
        said = f"Measured on {sentences.conditions(singles[0].measured_on)}."
        return [Section("Figures", [said], _ranking_table(singles[0]))]
    said = "Each of these was measured in a way of its own, so they are listed, not ranked."
    return [Section("Not ranked with others", [said], _singles_table(singles))]


def _ranking_table(ranking: Ranking) -> pd.DataFrame:
    rows = []
    for rank, cell in enumerate(ranking.cells, start=1):
        close = ranking.unseparated(rank)
        own = cell.figures[ranking.objective.key]
        seeds = f"{own.n} ({cell.failed} failed)" if cell.failed else own.n
        row = {"rank": rank, **{factor: _level(level) for factor, level in cell.levels.items()}, "seeds": seeds}
        row |= _figures(cell, ranking)
        row |= {"not separated from": _ranks(close) or "–", "train s": _seconds(cell.beside["train_seconds"])}
        rows.append(row)
    table, last = pd.DataFrame(rows), _last(ranking)  # where there is no room for all, these go first
    return table[[*(name for name in table if name not in last), *(name for name in table if name in last)]]


def _last(ranking: Ranking) -> list[str]:
    """The columns of figures of drawn images, but for those that one looks for."""
    found = [figure for figure in ranking.figures.values() if "samples" in figure.depends_on]
    return [figure.title for figure in (*found, *ranking.beside.values()) if figure not in (ranking.objective, FID)]


def _singles_table(singles: list[Ranking]) -> pd.DataFrame:
    rows = []
    for ranking in sorted(singles, key=lambda each: (each.measured_on["network_calls"] or 0, str(each.measured_on))):
        cell = ranking.cells[0]
        measured = {key.replace("_", " "): ranking.measured_on[key] for key in _varied(singles)}
        levels = {factor: _level(level) for factor, level in cell.levels.items()}
        seeds = cell.figures[ranking.objective.key].n
        rows.append({**measured, **levels, "seeds": seeds, **_figures(cell, ranking)})
    return pd.DataFrame(rows)


def _varied(ranked: list[Ranking]) -> list[str]:
    keys = ranked[0].measured_on
    return [key for key in keys if len({str(ranking.measured_on[key]) for ranking in ranked}) > 1]


def _figures(cell: Cell, ranking: Ranking) -> dict[str, str]:
    """`mean ± std` of each figure, the objective's first with its interval; then those that nothing is ranked by."""
    said = {}
    for key, figure in ranking.figures.items():
        said[figure.title] = sentences.spread(figure, cell.figures[key])
        if figure is ranking.objective:
            said["95 % interval"] = sentences.bounds(figure, cell.figures[key])
    for key, figure in ranking.beside.items():
        if key not in ranking.figures and cell.beside[key] == cell.beside[key]:
            said[figure.title] = figure.text(cell.beside[key])
    return said


def _effect_sections(collection: Collection, ranking: Ranking, which: str) -> list[Section]:
    runs = comparable(collection, ranking)
    factors = [factor for factor in collection.factors if 1 < runs[factor].nunique() <= MOST_LEVELS]
    if not factors:
        return []
    alike, objective = _alike(collection, factors), ranking.objective
    found = {
        figure: effects(runs, factors, alike, key, less_is_better=figure.less_is_better)
        for key, figure in ranking.figures.items()
    }
    alone = {each.factor for each in found[objective]}
    said = [f"{sentences.effect(each, objective, reversals(runs, each, factors, alike))}." for each in found[objective]]
    unpaired = [factor for factor in factors if factor not in alone]
    said += [f"{factor}: no two runs differ in it alone, so its effect is not known." for factor in unpaired]
    table = pd.DataFrame(
        [
            {
                "factor": each.factor,
                "change": f"{level_text(each.factor, each.first)} → {level_text(each.factor, each.second)}",
                "metric": figure.label,
                "difference": figure.text(each.difference.mean),
                "95 % interval": sentences.bounds(figure, each.difference),
                "pairs": each.pairs,
                "degrees of freedom": each.difference.n - 1 if each.difference.n > 1 else "–",
            }
            for figure, changes in found.items()
            for each in changes
        ]
    )
    if "schedule" in factors:
        averaged = [figure.label for figure in ranking.figures.values() if "samples" not in figure.depends_on]
        if averaged:
            names = " and ".join(averaged)
            said.append(f"{names} average over a run's own schedule: across schedules they ask unlike questions.")
    sections = [Section(f"Effect of each choice{which}", said, table if len(table) else None, brief=True)]
    strongest = interactions(runs, factors, alike, objective.key)[:LISTED]
    if strongest:
        sections.append(
            Section(f"Strongest interactions{which}", [f"{sentences.interaction(each, objective)}." for each in strongest])
        )
    return sections


def _agreement_sections(collection: Collection, ranking: Ranking, which: str) -> list[Section]:
    """Whether the other figures of these runs put them in the same order."""
    runs, objective = comparable(collection, ranking), ranking.objective
    signs = {key: 1 if figure.less_is_better else -1 for key, figure in {**ranking.figures, **ranking.beside}.items()}
    measured = [key for key in signs if runs[key].notna().all() and runs[key].nunique() > 1]
    if len(runs) < FEWEST_RANKED or objective.key not in measured or len(measured) < 2:
        return []
    values = {key: (signs[key] * runs[key]).tolist() for key in measured}
    others = {
        collection.figure(key): rank_correlation(values[objective.key], values[key])
        for key in measured
        if key != objective.key
    }
    table = pd.DataFrame(
        [
            {
                "figure": figure.label,
                f"rank correlation with {objective.label}": f"{found.rho:.2f}",
                "95 % interval": "–" if found.low != found.low else f"[{found.low:.2f}, {found.high:.2f}]",
            }
            for figure, found in others.items()
        ]
    )
    return [Section(f"Do the judges agree?{which}", [sentences.agreement(objective, others)], table, brief=True)]


def _alike(collection: Collection, factors: list[str]) -> list[str]:
    """What the runs of a pair must share besides `factors` other than the one in question."""
    return ["seed", *(factor for factor in collection.factors if factor not in factors)]


def _published_sections(collection: Collection, ranking: Ranking, which: str) -> list[Section]:
    """The reference's own table, where these are runs of the reference's network over its factors."""
    runs, data = comparable(collection, ranking), ranking.measured_on["data"]
    if data not in published.KID or collection.choices.get("network") != published.NETWORK:
        return []
    words = {factor: collection.choices.get(factor) for factor in published.FACTORS if factor not in runs}
    runs = runs.assign(**words)
    theirs = published.KID[data]
    means = runs.groupby(published.FACTORS, sort=False)[["kid", *published.RANGES]].mean()
    means = means[[cell in theirs for cell in means.index]]
    if len(means) < 2:
        return []
    means = means.assign(published=[theirs[cell] for cell in means.index]).sort_values("published")
    ours_rank, their_rank = means["kid"].rank().astype(int), means["published"].rank().astype(int)
    table = pd.DataFrame(
        {
            "cell": [" / ".join(cell) for cell in means.index],
            "published KID": [f"{kid:.4f}" for kid in means["published"]],
            "published rank": list(their_rank),
            "our KID": [KID.text(kid) for kid in means["kid"]],
            "our rank": list(ours_rank),
            **{key: [FIGURES[key].text(value) for value in means[key]] for key in published.RANGES},
        }
    )
    said = ["Compare orders, not values, where extractor, resolution or training differ from the published ones."]
    for metric, (low, high) in published.RANGES.items():
        least, most = means[metric].min(), means[metric].max()
        said.append(f"{metric}: published {low:.3f} to {high:.3f} over its cells, here {least:.3f} to {most:.3f}.")
    said.append(sentences.order(rank_correlation(means["kid"].tolist(), means["published"].tolist())))
    factors = [factor for factor in published.FACTORS if runs[factor].nunique() == 2]
    ours = effects(runs, factors, _alike(collection, factors), "kid")
    said += sentences.claims(data, [each for each in ours if {each.first, each.second} <= published.LEVELS[each.factor]])
    best = " / ".join(min(theirs, key=theirs.get))
    place = dict(zip(table["cell"], ours_rank, strict=True)).get(best, "unknown")
    said.append(f"Published best cell: {best}. Its rank here: {place}.")
    return [Section(f"Beside the published table{which}", said, table)]


def _picture_sections(collection: Collection, ranked: list[Ranking]) -> list[Section]:
    metric = ranked[0].objective
    order = ranked if len(ranked[0].cells) > 1 else sorted(ranked, key=lambda each: each.measured_on["network_calls"] or 0)
    cells = [cell for ranking in order for cell in ranking.cells]
    name = metric.label
    pictures = {"Samples, from the same noise": figures.samples(cells, metric)}
    for i, ranking in enumerate(ranked):
        if len(ranking.cells) > 1:
            pictures[f"{name} by cell" + (f" ({i + 1})" if i else "")] = figures.intervals(ranking)
    pictures["Held-out curves"] = figures.curves(cells, collection, "step", "training step")
    pictures["Held-out curves against training time"] = figures.curves(
        cells, collection, "train_seconds", "seconds of training"
    )
    pictures[f"{name} against training time"] = figures.against(ranked, "train_seconds", "training time in seconds", metric)
    pictures[f"{name} against network calls"] = figures.against(ranked, "network_calls", "network calls", metric)
    read = "share of images read as the label asked for"
    pictures[f"{name} against labels"] = figures.against(ranked, "label_accuracy", read, metric, "guidance.scale")
    for factor in [factor for factor in collection.factors if factor != "sampler.steps"]:  # those are the network calls
        if collection.runs[factor].nunique() > MOST_LEVELS and pd.api.types.is_numeric_dtype(collection.runs[factor]):
            pictures[f"{name} against {factor}"] = figures.against(ranked, factor, factor, metric)
    return [Section(title, picture=picture) for title, picture in pictures.items() if picture is not None]


def _pages(collection: Collection) -> list[Section]:
    """The runs' pages in the browser, where there are some."""
    runs = {run["name"]: Run(Path(folder)) for folder, run in collection.runs.iterrows()}
    links = {name: run.page for name, run in runs.items() if run.page.is_file()}
    return [Section("Pages in the browser", links=links)] if links else []


def _left_out(collection: Collection, objective: str) -> list[Section]:
    runs = collection.runs
    said = [f"{run['name']}: failed: {run['error']}" for _, run in runs[runs["status"] == "failed"].iterrows()]
    said += [f"{run['name']}: unfinished, {run['progress']}" for _, run in runs[runs["status"] == "unfinished"].iterrows()]
    said += collection.damage
    others = runs[~runs["status"].isin(["finished", "failed", "unfinished", "damaged"])]
    said += [f"{run['name']}: {run['status']}: {run['error']}" for _, run in others.iterrows()]
    finished = collection.finished
    missing = finished[~np.isfinite(finished[objective])] if objective in finished else finished
    said += [f"{run['name']}: finished, but has no {collection.figure(objective).label}" for _, run in missing.iterrows()]
    if collection.repeats:
        said.append(f"The same as another run, seed included, so not counted again: {', '.join(collection.repeats)}.")
    if collection.set_aside:
        said.append(f"Set aside, of other configurations: {', '.join(collection.set_aside)}.")
    return [Section("Not in the ranking", said)] if said else []


def _cells(ranked: list[Ranking]) -> pd.DataFrame:
    """Every cell's figures in full precision, one row each."""
    rows = []
    for ranking in ranked:
        for rank, cell in enumerate(ranking.cells, start=1):
            row = {"rank": rank if len(ranking.cells) > 1 else None, **cell.levels}
            for metric, own in cell.figures.items():
                row |= {metric: own.mean, f"{metric}_std": own.std, f"{metric}_low": own.low, f"{metric}_high": own.high}
                row |= {f"{metric}_seeds": own.n}
            rows.append(row | cell.beside | ranking.measured_on)
    return pd.DataFrame(rows)


def _level(level) -> str:
    if isinstance(level, float):
        return f"{int(level)}" if level.is_integer() else f"{level:.4g}"
    return str(level)


def _ranks(ranks: list[int]) -> str:
    """1, 2, 3, 7 as "1–3, 7"."""
    spans = []
    for rank in ranks:
        if spans and spans[-1][1] == rank - 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)


def _seconds(seconds: float) -> str:
    return "–" if seconds != seconds else f"{seconds:.0f}"
