"""What compares the runs of a W&B project: a workspace and a report with the same panels.

The names of curves, figures and pictures are those that `tracking` and `training` log.
"""

import re
from dataclasses import dataclass

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from diffusion_lab.figures import FID, IMAGE_LOSS, KID, MIND, NOISE_LOSS

DRAWN = (KID, FID, MIND)  # of drawn images, those that every run has
LOSSES = {
    **{f"val/{figure.key}": f"Held-out {figure.label}" for figure in (IMAGE_LOSS, NOISE_LOSS)},
    "train/loss_epoch": "Training loss",
}
GROUPINGS = ("loss", "target", "schedule")
COMPARED = ("data", "network", "schedule", "target", "loss", "weighting", "sampler")
STEP = "trainer/global_step"  # W&B's own "Step" counts what was logged, not training steps
MOST_RUNS = 100  # in one panel; W&B stops at 10 unless told
REPORT_WIDTH = 24  # in W&B's units


@dataclass
class Section:
    """Panels under a heading, in rows of `columns`; `height` is that of a panel in a report."""

    title: str
    text: str
    panels: list
    columns: int
    height: int

    def __post_init__(self):
        width = REPORT_WIDTH // self.columns
        for i, panel in enumerate(self.panels):
            row, column = divmod(i, self.columns)
            panel.layout = wr.Layout(x=column * width, y=row * self.height, w=width, h=self.height)


def workspace(entity: str, project: str, name: str | None) -> ws.Workspace:
    """The saved view of the runs in group `name`, or of all; the lowest KID is listed first."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_title(name),
        sections=[_workspace_section(section) for section in sections()],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=_in_group(name),
            order=[ws.Ordering(ws.Summary("kid"), ascending=True)],
            pinned_columns=["summary:kid", "summary:fid", *(f"config:choices.value.{choice}" for choice in GROUPINGS)],
        ),
    )


def report(entity: str, project: str, name: str | None) -> wr.Report:
    """The same panels as a page to read, with a sentence on each part."""
    blocks = [wr.TableOfContents()]
    for section in sections():
        grid = wr.PanelGrid(runsets=[_runset(name)], panels=section.panels)
        blocks += [wr.H2(section.title), wr.P(section.text), grid]
    return wr.Report(entity=entity, project=project, title=_title(name), blocks=blocks, width="fluid")


def specification(entity: str, project: str, name: str | None) -> dict:
    """Both as the plain values that `save` sends; uses no network."""
    parts = {"workspace": workspace(entity, project, name), "report": report(entity, project, name)}
    return {key: part._to_model().model_dump(mode="json", by_alias=True, exclude_none=True) for key, part in parts.items()}


def save(entity: str | None, project: str, name: str | None) -> dict[str, str]:
    """Add both to the W&B project and return their addresses. Needs an account, whose default entity null stands for."""
    entity = entity or wandb.Api().default_entity
    saved_report = report(entity, project, name).save()  # first: it makes a project that is not there yet
    return {"workspace": workspace(entity, project, name).save().url, "report": saved_report.url}


def sections() -> list[Section]:
    """The panels, made anew at each call, for each has an id of its own."""
    losses = [_loss_curve(curve, choice) for curve in LOSSES for choice in GROUPINGS]
    quality = [_curve(f"val/{figure.key}", figure.label) for figure in DRAWN]
    quality += [_bars(figure.key, figure.label) for figure in DRAWN]
    return [
        Section(
            "Loss curves",
            "Mean over the runs that share a loss, a target or a schedule; the band spans their lowest and highest. "
            "Training losses compare only under one loss and target, held-out errors under any.",
            losses,
            columns=3,
            height=8,
        ),
        Section(
            "KID and FID",
            "Curves come from runs with metrics.every_n_epochs set, bars from every finished run. Compare only figures of "
            "the same data, extractor, resolution, number of images and network calls.",
            quality,
            columns=2,
            height=9,
        ),
        Section(
            "Which choices matter",
            "Each line is a run, from its choices to its KID; below, how well each setting predicts the KID.",
            [_choices_to_kid(), wr.ParameterImportancePlot(with_respect_to="kid")],
            columns=1,
            height=11,
        ),
        Section(
            "Samples",
            "Runs of one seed start from the same noise. First the final grids, then how each run came to its own.",
            _grids(),
            columns=1,
            height=16,
        ),
    ]


def _loss_curve(curve: str, choice: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=f"{LOSSES[curve]} by {choice}",
        x=STEP,
        y=[curve],
        title_x="training step",
        title_y=curve,
        groupby=wr.Config(f"choices.{choice}"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST_RUNS,
    )


def _curve(curve: str, title: str) -> wr.LinePlot:
    axes = {"title_x": "training step", "title_y": title}
    return wr.LinePlot(title=f"{title} while training", x=STEP, y=[curve], max_runs_to_show=MOST_RUNS, **axes)


def _bars(figure: str, title: str) -> wr.BarPlot:
    most = {"max_runs_to_show": MOST_RUNS, "max_bars_to_show": MOST_RUNS}
    return wr.BarPlot(title=f"Final {title}", metrics=[figure], title_x=title, **most)


def _choices_to_kid() -> wr.ParallelCoordinatesPlot:
    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(wr.Config(f"choices.{choice}"), display_name=choice) for choice in COMPARED]
    columns += [
        column(wr.Config("optimizer.lr"), display_name="learning rate", log=True),
        column(wr.Config("epochs"), display_name="epochs"),
        column(wr.SummaryMetric("kid"), display_name="KID"),
    ]
    return wr.ParallelCoordinatesPlot(title="From choices to KID", columns=columns)


def _grids() -> list[wr.MediaBrowser]:
    while_training = {"grid_x_axis": "step", "grid_y_axis": "run"}
    return [
        wr.MediaBrowser(title="Final samples, run by run", media_keys=["final_samples"], gallery_axis="run", num_columns=4),
        wr.MediaBrowser(title="Samples while training, a row a run", media_keys=["sample_grid"], **while_training),
    ]


def _workspace_section(section: Section) -> ws.Section:
    rows = -(-len(section.panels) // section.columns)
    layout = ws.SectionLayoutSettings(columns=section.columns, rows=rows)
    return ws.Section(name=section.title, panels=section.panels, is_open=True, layout_settings=layout)


def _runset(name: str | None) -> wr.Runset:
    """Of the report's own project: naming it here would look it up on the network."""
    order = [wr.OrderBy(wr.SummaryMetric("kid"), ascending=True)]
    return wr.Runset(name=name or "all runs", filters=_in_group(name), order=order)


def _in_group(name: str | None) -> str:
    """A filter expression, in whose text W&B's parser would double a plain "="."""
    if name is None:
        return ""
    quoted = repr(name).replace("=", r"\x3d")
    return f"Metric('Group') == {quoted}"


def _title(name: str | None) -> str:
    """Without the symbols that W&B refuses in a workspace's name, and no longer than it takes for a report."""
    return "Comparison of " + re.sub(r"[^\w.-]+", " ", name or "all runs")[:100]
