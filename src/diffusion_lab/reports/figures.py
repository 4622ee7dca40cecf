"""The pictures of a report, as matplotlib figures."""

import math
from collections import Counter
from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import HELD_OUT
from diffusion_lab.figures import Figure as Declared
from diffusion_lab.reports.collect import Collection
from diffusion_lab.reports.ranking import Cell, Ranking, level_text
from diffusion_lab.wording import one_line

MOST_CURVES = 3  # side by side
TITLE = 44  # letters of a line above a grid
IMAGES = 10  # a row of samples
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what a damaged image raises
PAD = 2  # pixels between the images of a run's grid


def samples(cells: list[Cell], objective: Declared) -> Figure | None:
    """One row of samples a cell, in the given order, all from the same noise: that of the first seed which all have."""
    runs = [{run.results().get("seed"): run for run in map(Run, map(Path, cell.folders))} for cell in cells]
    seeds = sorted(set.intersection(*map(set, runs)))
    if not seeds:
        return None
    rows = [(cell, _first_row(by_seed[seeds[0]])) for cell, by_seed in zip(cells, runs, strict=True)]
    rows = [(cell, row) for cell, row in rows if row is not None]
    if not rows:
        return None
    width = 9.0
    ratio = max(row.height / row.width for _, row in rows)
    figure = Figure(figsize=(width, len(rows) * (width * ratio + 0.34) + 0.1), dpi=130, layout="constrained")
    for axis, (cell, row) in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows, strict=True):
        axis.imshow(row, interpolation="nearest")
        axis.set_axis_off()
        figure_of_cell = f"{objective.label} {objective.text(cell.figures[objective.key].mean)}"
        axis.set_title(_literal(f"{cell.label}   {figure_of_cell}   drawn: seed {seeds[0]}"), fontsize=9, loc="left", pad=3)
    return figure


def intervals(ranking: Ranking) -> Figure:
    """The objective of each cell: a dot for each seed, the mean and its interval."""
    metric, cells = ranking.objective, ranking.cells
    figure = Figure(figsize=(9, 0.34 * len(cells) + 1.0), dpi=130, layout="constrained")
    axis = figure.subplots()
    for place, cell in enumerate(cells):
        own = cell.figures[metric.key]
        if own.n > 1:
            axis.plot([own.low, own.high], [place, place], color="tab:blue", linewidth=2, solid_capstyle="butt")
        axis.plot(own.mean, place, "o", color="tab:blue", markersize=6)
        seeds = [Run(Path(folder)).results().get(metric.key, math.nan) for folder in cell.folders]
        axis.plot(seeds, [place] * len(seeds), "|", color="black", markersize=9)
    axis.set_yticks(range(len(cells)), [_literal(cell.label) for cell in cells], fontsize=9)
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.set_xlabel(_literal(f"{metric.title} ({metric.better}): mean, 95 % interval, and each seed as a tick"), fontsize=9)
    return _plain(figure)


def curves(cells: list[Cell], collection: Collection, x: str, label: str) -> Figure | None:
    """The figures that are also curves against `x`, "step" or "train_seconds": the mean over seeds of each cell. Curves of
    other images or of another space have other units: those of most cells are drawn, the others left out."""
    names = [f"val/{key}" for key, each in collection.figures.items() if each.curve and key != "fid"]  # KID stands for it
    drawn = {name: [(i, _mean_curve(cell, name, x)) for i, cell in enumerate(cells)] for name in names}
    drawn = {name: [(i, curve) for i, curve in rows if len(curve) > 1] for name, rows in drawn.items()}
    keys = [key for key in (*HELD_OUT, "units") if key in collection.runs]
    units = {i: tuple(collection.runs.loc[cells[i].folders[0], keys].map(str)) for rows in drawn.values() for i, _ in rows}
    if not units:
        return None
    of_most = Counter(units.values()).most_common(1)[0][0]
    left_out = sum(unit != of_most for unit in units.values())
    drawn = {name: [(i, curve) for i, curve in rows if units[i] == of_most] for name, rows in drawn.items()}
    drawn = {name: rows for name, rows in drawn.items() if rows}
    figure = Figure(figsize=(9, 3.4 + 0.11 * len(units)), dpi=130, layout="constrained")
    if left_out:
        figure.suptitle(f"left out: {left_out} of {len(units)} cells, of other images or another space", fontsize=9)
    for axis, (name, rows) in zip(np.atleast_1d(figure.subplots(1, len(drawn))), drawn.items(), strict=True):
        for i, curve in rows:
            marker = "." if len(curve) < 20 else None
            axis.plot(curve.index, curve, marker=marker, label=_literal(cells[i].label), **_line_style(i))
        axis.set_title(_literal(name), fontsize=9)
        axis.set_xlim(left=0)
        axis.set_xlabel(_literal(label), fontsize=9)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return _plain(figure)


def curves_so_far(runs: list[Run]) -> Figure | None:
    """The held-out curves of each run against the training step, as far as they go."""
    found = {run: [row for row in run.sound_curves() if any(key.startswith("val/") for key in row)] for run in runs}
    names = dict.fromkeys(key for rows in found.values() for row in rows for key in row)
    names = [name for name in names if name.startswith("val/") and not name.endswith("_std")][:MOST_CURVES]
    if not names:
        return None
    figure = Figure(figsize=(9, 3.4 + 0.11 * len(runs)), dpi=110, layout="constrained")
    for axis, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for i, (run, rows) in enumerate(found.items()):
            points = [(row["step"], row[name]) for row in rows if name in row]
            axis.plot(
                *zip(*points, strict=True) if points else ((), ()),
                marker=".",
                label=_literal(run.folder.name),
                **_line_style(i),
            )
        axis.set_title(_literal(name), fontsize=9)
        axis.set_xlabel("training step", fontsize=9)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize=8, frameon=False)
    return _plain(figure)


def latest_samples(runs: list[Run]) -> Figure | None:
    """The newest grid of each run, side by side."""
    grids = {run: _latest_grid(run) for run in runs}
    grids = {run: grid for run, grid in grids.items() if grid is not None}
    if not grids:
        return None
    columns = min(3, len(grids))
    rows = math.ceil(len(grids) / columns)
    figure = Figure(figsize=(9, 3.2 * rows), dpi=110, layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, (run, (file, picture)) in zip(axes, grids.items(), strict=False):
        axis.imshow(picture)
        lines = wrap(run.folder.name, TITLE)[:3]  # a longer line would leave the picture no room
        axis.set_title("\n".join(map(_literal, [*lines, file.stem.replace("_", " ")])), fontsize=7)
    return figure


def _latest_grid(run: Run) -> tuple[Path, Image.Image] | None:
    files = [run.final_grid, *sorted(run.samples.glob("epoch_*.png"), reverse=True)]
    for file in files:
        try:
            with Image.open(file) as picture:
                return file, picture.convert("RGB")
        except UNREADABLE:  # not there, being written, or damaged
            continue
    return None


def against(rankings: list[Ranking], x: str, label: str, metric: Declared, along: str | None = None) -> Figure | None:
    """`metric` of cells against a number that belongs to each, such as training time or network calls.

    Cells that differ in that number alone are joined by a line; or those that differ in `along`, a factor, in its order.
    """
    points = [(cell, _number(ranking, cell, x)) for ranking in rankings for cell in ranking.cells]
    points = [(cell, at) for cell, at in points if at == at]
    if len({at for _, at in points}) < 2:
        return None
    figure = Figure(figsize=(9, 4.2), dpi=130, layout="constrained")
    axis = figure.subplots()
    for name, line in _lines(points, along or x).items():
        line = sorted(line, key=lambda point: point[0].levels.get(along, point[1]))
        mean = [cell.figures[metric.key].mean for cell, _ in line]
        error = [[_half(cell.figures[metric.key]) for cell, _ in line]] * 2
        style = {"fmt": "o-", "markersize": 5, "capsize": 3, "linewidth": 1.2, "label": _literal(name)}
        axis.errorbar([at for _, at in line], mean, yerr=error, **style)
        for i, (cell, at) in enumerate(line):
            if along in cell.levels:
                place = (at, cell.figures[metric.key].mean)
                note = level_text(along, cell.levels[along])
                axis.annotate(note, place, textcoords="offset points", xytext=(6, -9 if i % 2 else 5), fontsize=7)
    values, means = [at for _, at in points], [cell.figures[metric.key].mean for cell, _ in points]
    if x != "label_accuracy" and _wide(values):  # shares are read from 0 to 1
        axis.set_xscale("log")
        _plain_ticks(axis.xaxis, values)
    else:
        room = 0.1 * max(map(abs, values))  # so that no difference of noise fills the axis
        left = min(values) - room
        axis.set_xlim(left if min(values) < 0 else max(0, left), max(values) + room)
    if _wide(means):
        axis.set_yscale("log")
        _plain_ticks(axis.yaxis, means)
    axis.set_xlabel(_literal(label), fontsize=9)
    axis.set_ylabel(_literal(f"{metric.title} ({metric.better})"), fontsize=9)
    if len(_lines(points, along or x)) > 1:
        axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _plain(figure)


def _wide(values: list[float]) -> bool:
    """Whether values spread so far that only a logarithmic axis shows them all."""
    return min(values) > 0 and max(values) / min(values) >= 8


def _plain_ticks(axis: Axis, values: list[float]) -> None:
    """The values themselves on a logarithmic axis, where they are few whole numbers, else 1, 2, 5, 10 and so on."""
    ticks = sorted(set(values))
    if len(ticks) > 8 or not all(value.is_integer() for value in ticks):
        series = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
        ticks = [tick for tick in series if min(values) / 1.2 <= tick <= max(values) * 1.2]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axis.set_minor_locator(NullLocator())


def _number(ranking: Ranking, cell: Cell, x: str) -> float:
    value = cell.beside.get(x, cell.levels.get(x, ranking.measured_on.get(x)))
    return float(value) if isinstance(value, int | float) else math.nan


def _lines(points: list[tuple[Cell, float]], x: str) -> dict[str, list]:
    """Cells that are alike but for `x`, by their label."""
    follows = {x, "sampler.steps"} if x == "network_calls" else {x}
    lines = {}
    for cell, at in points:
        rest = [level_text(factor, level) for factor, level in cell.levels.items() if factor not in follows]
        lines.setdefault(" / ".join(rest) or "all runs", []).append((cell, at))
    return lines


def _half(interval) -> float:
    return (interval.high - interval.low) / 2 if interval.n > 1 else 0.0


def _mean_curve(cell: Cell, name: str, x: str) -> pd.Series:
    """The mean over a cell's seeds of one curve of metrics.csv, by `x`; empty where that is not known."""
    points = []
    for folder in cell.folders:
        rows = Run(Path(folder)).sound_curves()
        known = [(row["step"], row[x]) for row in rows if x in row]
        if known:
            steps, places = zip(*known, strict=True)
            points += [(row["step"], np.interp(row["step"], steps, places), row[name]) for row in rows if name in row]
    mean = pd.DataFrame(points, columns=["step", "x", "y"]).groupby("step").mean()
    return pd.Series(mean["y"].array, index=mean["x"])


def _line_style(place: int) -> dict:
    return {"color": f"C{place % 10}", "linestyle": ("-", "--", ":")[place // 10 % 3], "linewidth": 1.3}


def _first_row(run: Run) -> Image.Image | None:
    """The first images of a run's final grid."""
    try:
        with Image.open(run.final_grid) as grid:
            left, top, width, height, columns = _places(grid, run)
            return grid.convert("RGB").crop((left, top, left + width * min(columns, IMAGES) + PAD, top + height + PAD))
    except UNREADABLE:  # there is none, or it is damaged
        return None


def _places(grid: Image.Image, run: Run) -> list[int]:
    """Left, top, the width and height of a tile, and columns, as the file says; an older one is `grid.count` images in a
    square.

    Raises:
        ValueError: it says something else.
    """
    said = grid.info.get("grid")
    if said is None:
        columns = math.ceil(math.sqrt(run.config().get("grid", {}).get("count", 1)))
        return [0, 0, *[(grid.width - PAD) // columns] * 2, columns]
    places = [int(number) for number in str(said).split()]
    if len(places) != 5 or not all(0 <= place <= max(grid.size) for place in places):
        raise ValueError("damaged")
    return places


def _plain(figure: Figure) -> Figure:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", alpha=0.25)
    return figure


def _literal(text: str) -> str:
    """`text` as it is: matplotlib takes what stands between two $ for a formula."""
    return one_line(text).replace("$", r"\$")
