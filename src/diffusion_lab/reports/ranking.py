"""Cells of a comparison, seeds put together, best first; figures measured in different ways are never ranked together."""

from dataclasses import dataclass

import pandas as pd

from diffusion_lab.reports.collect import BESIDE, MEASURED_ON, Collection, metrics_of
from diffusion_lab.reports.statistics import Interval, t_interval


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
        levels: factor to level.
        figures: metric to its mean and interval over seeds.
        beside: means of BESIDE, such as training seconds; NaN where unknown.
        folders: of the runs, in the order of their seeds.
    """

    levels: dict
    figures: dict[str, Interval]
    beside: dict[str, float]
    folders: list[str]

    @property
    def label(self) -> str:
        return " / ".join(level_text(factor, level) for factor, level in self.levels.items()) or "all runs"


@dataclass(frozen=True)
class Ranking:
    """Cells measured in the same way (`measured_on`), the smallest mean `objective` first."""

    measured_on: dict
    objective: str
    cells: list[Cell]

    def unseparated(self, rank: int) -> list[int]:
        """Ranks, from 1, of the other cells whose interval overlaps that of the cell at `rank`."""
        own = self.cells[rank - 1].figures[self.objective]
        others = enumerate(self.cells, start=1)
        return [i for i, cell in others if i != rank and own.overlaps(cell.figures[self.objective])]


def rankings(collection: Collection, objective: str) -> list[Ranking]:
    """One ranking for each way in which finished runs were measured, the largest first, then the fewest network calls."""
    finished = collection.finished.dropna(subset=[objective])
    groups = finished.groupby(list(MEASURED_ON), dropna=False, sort=False)
    ranked = [_ranking(dict(zip(MEASURED_ON, key, strict=True)), runs, collection, objective) for key, runs in groups]
    return sorted(ranked, key=lambda ranking: (-len(ranking.cells), ranking.measured_on["network_calls"] or 0))


def comparable(collection: Collection, ranking: Ranking) -> pd.DataFrame:
    """The finished runs of one ranking."""
    return collection.runs.loc[[folder for cell in ranking.cells for folder in cell.folders]]


def level_text(factor: str, level) -> str:
    """A level as a label: a word as it is, anything else with what it is of."""
    if isinstance(level, float):
        level = int(level) if level.is_integer() else f"{level:.3g}"
    return level if isinstance(level, str) and "." not in factor else f"{factor.rsplit('.', 1)[-1]} {level}"


def _ranking(measured_on: dict, runs: pd.DataFrame, collection: Collection, objective: str) -> Ranking:
    if collection.factors:
        groups = runs.groupby(collection.factors, dropna=False, sort=False)
        cells = [_cell(dict(zip(collection.factors, key, strict=True)), cell, objective) for key, cell in groups]
    else:
        cells = [_cell({}, runs, objective)]
    return Ranking(measured_on, objective, sorted(cells, key=lambda cell: cell.figures[objective].mean))


def _cell(levels: dict, runs: pd.DataFrame, objective: str) -> Cell:
    runs = runs.sort_values("seed", kind="stable")
    figures = {metric: t_interval(runs[metric]) for metric in metrics_of(objective)}
    return Cell(levels, figures, {name: float(runs[name].mean()) for name in BESIDE}, list(runs.index))
