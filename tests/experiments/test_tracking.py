import csv
import json
import time

import pytest
import torch

from diffusion_lab.experiments import tracking
from diffusion_lab.experiments.runs import Run
from tests.experiments.wandb_file import records


def test_a_resumed_run_keeps_the_rows_up_to_its_checkpoint(tmp_path):
    run = Run(tmp_path)
    logger = tracking.metrics_csv(run)
    for step in range(6):
        logger.log_metrics({"val/loss": 1.0 - step / 10}, step)
    logger.finalize("success")
    resumed = tracking.metrics_csv(run, resume_step=4)  # its last checkpoint was written after step 3
    resumed.log_metrics({"val/loss": 0.1}, 4)
    resumed.finalize("success")
    rows = [(int(row["step"]), float(row["val/loss"])) for row in csv.DictReader(run.metrics_file.open())]
    assert rows == [(0, 1.0), (1, 0.9), (2, 0.8), (3, 0.7), (4, 0.1)]
    assert tracking.best_of_curves(run) == {"best/val/loss": 0.1}


def test_a_kill_while_a_new_column_is_written_loses_no_row(tmp_path, monkeypatch):
    run = Run(tmp_path)
    logger = tracking.metrics_csv(run)
    logger.log_metrics({"train/loss": 0.5}, 0)
    monkeypatch.setattr(csv.DictWriter, "writerows", _killed)  # the moment between truncating a file and filling it
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"val/loss": 0.4}, 0)
    monkeypatch.undo()
    assert run.curves() == [{"step": 0, "train/loss": 0.5}]
    monkeypatch.setattr(csv.DictWriter, "writerows", _killed)
    with pytest.raises(KeyboardInterrupt):  # so too while a resumed run takes the file over
        tracking.metrics_csv(run, resume_step=1)
    monkeypatch.undo()
    assert run.curves() == [{"step": 0, "train/loss": 0.5}]


def _killed(*_) -> None:
    raise KeyboardInterrupt


def test_wandb_runs_are_grouped_tagged_and_keep_their_id(tmp_path):
    choices = {"data": "mnist_5k", "network": "unet", "schedule": "linear", "target": "noise", "loss": "mae"}
    config = {"name": "comparison", "choices": choices, "epochs": 3, "data": {"image_size": 28}}
    logger = tracking.wandb(Run(tmp_path / "loss-mae"), config, mode="offline", project="diffusion-lab")
    experiment = logger.experiment
    try:
        assert experiment.name == "loss-mae"
        assert experiment.group == "comparison"
        assert experiment.job_type == "train"
        assert {"loss=mae", "target=noise", "schedule=linear"} <= set(experiment.tags)
        assert experiment.config["data"] == {"image_size": 28}  # plain nested values
        assert tracking.wandb(Run(tmp_path / "loss-mae"), config, "offline", "diffusion-lab")._id == experiment.id
    finally:
        tracking.close([logger])
    import wandb

    assert wandb.run is None  # the next job starts its own


@pytest.mark.parametrize("content", ["", None])
def test_an_id_that_was_never_written_is_made_again(tmp_path, content):
    """A full disk, or a kill, left an empty one, with which W&B did not begin."""
    run = Run(tmp_path / "run")
    (run.folder / "wandb").mkdir(parents=True)
    if content is not None:
        (run.folder / "wandb/id").write_text(content)
    logger = tracking.wandb(run, {"name": "x", "choices": {}}, "disabled", "project")
    assert len(logger._id) == 8
    assert (run.folder / "wandb/id").read_text() == logger._id


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """offline(run, **settings): a W&B logger; offline.read(kind): what it has written."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))

    def begun(run: Run, **settings):
        return tracking.wandb(run, {"name": "frogs", "choices": {}}, "offline", "diffusion-lab", **settings)

    def read(run: Run, kind: str) -> list:
        [file] = run.folder.glob("wandb/offline-run-*/*.wandb")
        patience = time.monotonic() + 20
        while not records(file, "exit") and time.monotonic() < patience:  # W&B's own process writes it, somewhat later
            time.sleep(0.1)
        return records(file, kind)

    begun.read = read
    return begun


def test_all_that_wandb_is_told_can_be_read_back(offline, tmp_path):
    run = Run(tmp_path / "loss-mae@2")
    for name in ("best", "last", "previous"):
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        (run.checkpoints / f"{name}.ckpt").write_text(name)
    logger = offline(run)
    images = torch.rand(2, 1, 8, 8)
    samples = tracking.Samples(images, 3, ["frog", "toad"], 1.5, ((images * 255).byte(), torch.tensor([0.25, 0.5])))
    try:
        tracking.log_samples([logger], samples, step=7)
        tracking.log_checkpoints([logger], run, "# frogs", {"kid": 0.1})
        tracking.alert([logger], "frogs diverged", "after step 7")
        tracking.alert([logger], "frogs: copies", "30 of 1000", level="WARN")
        tracking.mark_preempted([logger])
    finally:
        tracking.close([logger], failed=True)
    metrics = {metric.name: metric for metric in offline.read(run, "metric")}
    assert metrics["val/kid"].step_metric == "images_seen" and metrics["val/kid"].summary.min
    assert metrics["val/accuracy"].summary.max and not metrics["val/accuracy"].summary.min
    alert, warning = offline.read(run, "alert")
    assert (warning.title, warning.text, warning.level) == ("frogs: copies", "30 of 1000", "WARN")
    assert (alert.title, alert.text, alert.level) == ("frogs diverged", "after step 7", "ERROR")
    assert len(offline.read(run, "preempting")) == 1
    models = [artifact for artifact in offline.read(run, "artifact") if artifact.type == "model"]
    assert [(set(each.aliases) - {"latest"}, each.name) for each in models] == [
        ({"best"}, "frogs-loss-mae_2"),
        ({"last"}, "frogs-loss-mae_2"),
    ]
    files = [{entry.path: entry.local_path for entry in each.manifest.contents} for each in models]
    assert [set(each) for each in files] == [{"best.ckpt", "MODEL_CARD.md"}, {"last.ckpt", "MODEL_CARD.md"}]
    assert files[1]["last.ckpt"] == str(run.checkpoints / "last.ckpt")  # no copy of it is made
    assert json.loads(models[0].metadata)["kid"] == 0.1
    [table] = run.folder.glob("wandb/offline-run-*/files/media/table/samples*.table.json")
    rows = json.loads(table.read_text())
    assert rows["columns"] == ["sample", "seed", "image", "label", "scale", "nearest training image", "distance"]
    assert [row[1:5] + row[6:] for row in rows["data"]] == [[3, 0, "frog", 1.5, 0.25], [3, 1, "toad", 1.5, 0.5]]


def test_one_key_keeps_checkpoints_here(offline, tmp_path):
    run = Run(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.last_checkpoint.write_text("last")
    logger = offline(run, artifacts=False)
    logger.experiment  # noqa: B018
    tracking.log_checkpoints([logger], run, "# frogs", {})
    tracking.close([logger])
    assert not offline.read(run, "artifact")
    assert not (run.checkpoints / "MODEL_CARD.md").exists()


def test_a_disabled_run_takes_all_and_keeps_nothing(tmp_path):
    run = Run(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.last_checkpoint.write_text("last")
    logger = tracking.wandb(run, {"name": "frogs", "choices": {}}, "disabled", "diffusion-lab")
    tracking.log_samples([logger], tracking.Samples(torch.rand(1, 3, 8, 8), 0, ["frog"], 1.0), step=1)
    tracking.log_checkpoints([logger], run, None, {})
    tracking.alert([logger], "title", "text")
    tracking.mark_preempted([logger])
    tracking.close([logger])
    assert not list(run.folder.glob("wandb/*run-*"))
