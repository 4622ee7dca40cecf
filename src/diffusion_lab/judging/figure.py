"""One figure of which metric sees what."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_lab.figures import Figure as Declared
from diffusion_lab.judging.worsenings import WORSENINGS

PANELS, ABREAST = 2, 4  # beside each other, of all worsenings and of the ladder


def judge_figure(found: pd.DataFrame, figures: dict[str, Declared]) -> Figure:
    """A panel for each data set and extractor: a row a figure, a column a worsening, with the smallest step that is seen.

    Args:
        found: of `verdicts`, with columns `data` and `extractor` beside.
    """
    groups = list(found.groupby(["data", "extractor", "images"], sort=False))
    down = math.ceil(len(groups) / PANELS)
    across = min(PANELS, len(groups))
    height = 0.9 + 0.33 * found["figure"].nunique()
    figure = Figure(figsize=(6.4 * across, height * down + 0.5), dpi=120, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.set_axis_off()
    for axis, ((data, extractor, images), rows) in zip(axes.flat, groups, strict=False):
        _panel(axis, rows, figures)
        axis.set_title(f"{data}, features of {extractor}, sets of {images} images", fontsize=9)
    figure.suptitle("The smallest step that is seen; darker: more of the four; –: none; red: taken for better", fontsize=10)
    return figure


def ladder_figure(values: pd.DataFrame, found: pd.DataFrame, figures: dict[str, Declared]) -> Figure:
    """A panel for each figure: its values over the share of the training, with the deviation of sets where there are any.

    Args:
        values: of `climb`, both: step (the share of the training that is left out), figure, value.
        found: of `verdicts`, for each figure's rho.
    """
    values = values.groupby(["figure", "step"], sort=False)["value"].agg(["mean", "std"]).reset_index()
    rhos = found.set_index("figure")["rho"]
    keys = list(dict.fromkeys(values["figure"]))
    across = min(ABREAST, len(keys))
    down = math.ceil(len(keys) / across)
    figure = Figure(figsize=(2.9 * across, 2.2 * down + 0.4), dpi=120, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(keys) :]:
        axis.set_axis_off()
    for axis, key in zip(axes.flat, keys, strict=False):
        rows = values[values["figure"] == key].sort_values("step")
        axis.errorbar(1 - rows["step"], rows["mean"], rows["std"].fillna(0), marker="o", ms=3, lw=1, capsize=2)
        rho = f", rho {rhos[key]:.2f}" if key in rhos else ""
        axis.set_title(f"{figures[key].title}{rho}\n{figures[key].better}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("share of the training", fontsize=9)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, figures: dict[str, Declared]) -> None:
    keys, names = list(dict.fromkeys(rows["figure"])), list(dict.fromkeys(rows["worsening"]))
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_ylim(len(keys) - 0.5, -0.5)
    seen = rows.pivot(index="figure", columns="worsening", values="seen").loc[keys, names]
    axis.imshow(seen, cmap="Greens", vmin=0, vmax=6, aspect="auto")
    for row in rows.itertuples():
        worsening = WORSENINGS[row.worsening]
        text = worsening.text(row.smallest).partition(" of ")[0] if row.smallest < math.inf else "–"
        text = f"≤ {text}" if row.smallest <= worsening.steps[0] else text
        place, colour = (names.index(row.worsening), keys.index(row.figure)), "black"
        if row.reversed:
            text, colour = "better", "tab:red"
        axis.text(
            *place,
            text.replace("≤ quality", "≥ q").replace("quality", "q"),
            ha="center",
            va="center",
            fontsize=8,
            color=colour,
        )
    axis.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=8)
    axis.set_yticks(range(len(keys)), [figures[key].label for key in keys], fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
