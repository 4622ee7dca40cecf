"""Cells of a comparison, seeds put together, best first; figures measured in different ways are never ranked together."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from diffusion_lab.figures import Figure
from diffusion_lab.reports.collect import Collection, measured_on
from diffusion_lab.reports.statistics import Interval, t_interval


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
        levels: factor to level.
        figures: metric to its mean and interval over seeds.
        beside: means of what is shown beside them, such as training seconds; NaN where unknown.
        folders: of the runs, in the order of their seeds.
        failed: runs with these levels that gave nothing.
    """

    levels: dict
    figures: dict[str, Interval]
    beside: dict[str, float]
    folders: list[str]
    failed: int

    @property
    def label(self) -> str:
        return " / ".join(level_text(factor, level) for factor, level in self.levels.items()) or "all runs"


@dataclass(frozen=True)
class Ranking:
    """Cells measured in the same way (`measured_on`), the best mean `objective` first; `figures` are all that
    could be ranked by, `beside` those that could not."""

    measured_on: dict
    objective: Figure
    figures: dict[str, Figure]
    beside: dict[str, Figure]
    cells: list[Cell]

    def unseparated(self, rank: int) -> list[int]:
        """Ranks, from 1, of the other cells whose interval overlaps that of the cell at `rank`."""
        own = self.cells[rank - 1].figures[self.objective.key]
        others = enumerate(self.cells, start=1)
        return [i for i, cell in others if i != rank and own.overlaps(cell.figures[self.objective.key])]


def rankings(collection: Collection, objective: str) -> list[Ranking]:
    """One ranking for each way in which finished runs were measured, the largest first, then the fewest network calls."""
    if objective not in collection.figures:
        return []
    finished = collection.finished
    finished = finished[np.isfinite(finished[objective])]
    depends_on = measured_on([collection.figures[objective]])
    groups = finished.groupby(depends_on, dropna=False, sort=False)
    ways = [(dict(zip(depends_on, key, strict=True)), runs) for key, runs in groups]
    ranked = [_ranking(way, runs, collection, collection.figures[objective]) for way, runs in ways]
    return sorted(ranked, key=lambda ranking: (-len(ranking.cells), ranking.measured_on["network_calls"] or 0))


def comparable(collection: Collection, ranking: Ranking) -> pd.DataFrame:
    """The finished runs of one ranking."""
    return collection.runs.loc[[folder for cell in ranking.cells for folder in cell.folders]]


def level_text(factor: str, level) -> str:
    """A level as a label: a word as it is, anything else with what it is of."""
    if isinstance(level, float):
        level = int(level) if level.is_integer() else f"{level:.3g}"
    return level if isinstance(level, str) and "." not in factor else f"{factor.rsplit('.', 1)[-1]} {level}"


def _ranking(measured_on: dict, runs: pd.DataFrame, collection: Collection, objective: Figure) -> Ranking:
    ranked = {key: figure for key, figure in collection.figures.items() if figure.ranked and _is_one_figure(figure, runs)}
    figures = {objective.key: objective, **ranked}
    groups = [({}, runs)]
    if collection.factors:
        grouped = runs.groupby(collection.factors, dropna=False, sort=False)
        groups = [(dict(zip(collection.factors, key, strict=True)), cell) for key, cell in grouped]
    failed = collection.runs[collection.runs["status"] == "failed"]
    cells = [_cell(levels, cell, figures, collection.beside, failed) for levels, cell in groups]
    sign = 1 if objective.less_is_better else -1
    cells = sorted(cells, key=lambda cell: sign * cell.figures[objective.key].mean)
    beside = {key: figure for key, figure in collection.figures.items() if not figure.ranked}
    return Ranking(measured_on, objective, figures, beside, cells)


def _is_one_figure(figure: Figure, runs: pd.DataFrame) -> bool:
    """Whether these runs have it, and it means the same in all of them."""
    return runs[figure.key].notna().any() and all(runs[key].nunique(dropna=False) < 2 for key in figure.depends_on)


def _cell(levels: dict, runs: pd.DataFrame, figures: dict[str, Figure], beside: list[str], failed: pd.DataFrame) -> Cell:
    runs = runs.sort_values("seed", kind="stable")
    means = {name: float(pd.to_numeric(runs[name], errors="coerce").mean()) for name in beside}  # epochs=None, of minutes
    by_seed = runs.groupby("seed", dropna=False)[list(figures)].mean()  # repeats of a seed are no further evidence
    alike = np.all([failed[factor] == level for factor, level in levels.items()], axis=0) if levels else np.ones(len(failed))
    intervals = {key: t_interval(by_seed[key]) for key in figures}
    return Cell(levels, intervals, means, list(runs.index), int(np.sum(alike)))
