"""The specification that would be sent to W&B names what runs log, and is what W&B's own classes read."""

import csv
import json

import pytest
import wandb
from wandb_workspaces.reports.v2 import Report
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View

from diffusion_lab.commands.train import train
from diffusion_lab.experiments.dashboard import COMPARED, specification
from diffusion_lab.experiments.runs import Run
from tests.conftest import TINY, composed

GROUPINGS = {"choices.value.loss", "choices.value.target", "choices.value.schedule"}
LOSSES = {"train/loss_epoch", "val/noise_loss", "val/image_loss"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("asked W&B")

    monkeypatch.setattr(wandb, "Api", fail)


def grids(specified: dict) -> list[dict]:
    return [block["metadata"] for block in specified["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]


def report_panels(specified: dict) -> list[list[dict]]:
    return [grid["panelBankSectionConfig"]["panels"] for grid in grids(specified)]


def workspace_panels(specified: dict) -> list[list[dict]]:
    bank = specified["workspace"]["spec"]["section"]["panelBankConfig"]
    return [section["panels"] for section in bank["sections"]]


def configs(view: str, sections: list[list[dict]]) -> list[dict]:
    return [panel["config"] for section in sections for panel in section if panel["viewType"] == view]


def runsets(specified: dict) -> list[dict]:
    return [
        *specified["workspace"]["spec"]["section"]["runSets"],
        *(runset for grid in grids(specified) for runset in grid["runSets"]),
    ]


@pytest.fixture(params=[report_panels, workspace_panels])
def panels(request) -> list[list[dict]]:
    return request.param(specification("someone", "diffusion-lab", "comparison"))


def test_loss_curves_are_grouped_by_loss_target_and_schedule(panels):
    grouped = [config for config in configs("Run History Line Plot", panels) if "groupBy" in config]
    assert {(config["metrics"][0], config["groupBy"]) for config in grouped} == {
        (loss, grouping) for loss in LOSSES for grouping in GROUPINGS
    }
    assert all(config["groupAgg"] == "mean" and config["aggregate"] for config in grouped)


def test_kid_and_fid_stand_against_the_training_step(panels):
    curves = configs("Run History Line Plot", panels)
    assert {"val/kid", "val/fid", "val/mind"} == {config["metrics"][0] for config in curves if "groupBy" not in config}
    assert {config["xAxis"] for config in curves} == {"trainer/global_step"}
    assert [config["metrics"] for config in configs("Bar Chart", panels)] == [["kid"], ["fid"], ["mind"]]


def test_choices_are_set_against_kid(panels):
    (lines,) = configs("Parallel Coordinates Plot", panels)
    accessors = [column["accessor"] for column in lines["columns"]]
    assert {f"config:{grouping}" for grouping in GROUPINGS} <= set(accessors)
    assert {"config:optimizer.value.lr", "config:epochs.value"} <= set(accessors)
    assert accessors[-1] == "summary:kid"
    assert [config["targetKey"] for config in configs("Parameter Importance", panels)] == ["kid"]


def test_sample_grids_lie_side_by_side(panels):
    final, while_training = configs("Media Browser", panels)
    assert (final["mediaKeys"], final["gallerySettings"]) == (["final_samples"], {"axis": "run"})
    assert while_training["mediaKeys"] == ["sample_grid"]
    assert while_training["gridSettings"] == {"xAxis": "step", "yAxis": "run"}


def test_panels_do_not_overlap(panels):
    for section in panels:
        layouts = [panel["layout"] for panel in section]
        cells = [
            (x, y)
            for place in layouts
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("name", ["comparison", "it's", 'a "b"', "loss=mae", "a and b", "2024", "🙂" * 200])
def test_a_name_keeps_the_runs_of_its_group(name):
    filters = [runset["filters"]["filters"] for runset in runsets(specification("someone", "diffusion-lab", name))]
    group = {"key": {"section": "run", "name": "group"}, "op": "=", "value": name, "disabled": False}
    assert filters == [[group]] * 5


def test_no_name_keeps_all_runs():
    for runset in runsets(specification("someone", "diffusion-lab", None)):
        assert runset["filters"]["filters"] == []


def test_it_is_plain_json_that_wandb_reads_back():
    specified = json.loads(json.dumps(specification("someone", "diffusion-lab", "comparison")))
    view = View.model_validate(specified["workspace"])
    assert written(Workspace._from_model(view)) == specified["workspace"]["spec"]
    page = ReportViewspec.model_validate(specified["report"])
    assert written(Report._from_model(page))["blocks"] == specified["report"]["spec"]["blocks"]


def written(part: Workspace | Report) -> dict:
    return part._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_a_run_logs_every_name(tmp_path):
    least = ("epochs=1", "data.max_images=40", "sampler.steps=1", "grid.count=1", "metrics.samples=4")
    cfg = composed("train", *TINY, *least, "metrics.every_n_epochs=1", "grid.every_n_epochs=1")
    train(cfg, str(tmp_path / "run"), is_multirun=False)
    run = Run(tmp_path / "run")
    with run.metrics_file.open(newline="") as file:
        logged = set(csv.DictReader(file).fieldnames)
    assert LOSSES | {"val/kid", "val/fid", "val/mind"} <= logged
    assert {"kid", "fid"} <= run.results().keys()
    assert set(COMPARED) <= run.config()["choices"].keys()
    assert {"lr"} <= run.config()["optimizer"].keys()
    pictures = {file.name.rsplit("_", 2)[0] for file in run.folder.glob("wandb/*/files/media/images/*.png")}
    assert {"sample_grid", "final_samples"} <= pictures
