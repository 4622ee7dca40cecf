import csv

import pytest

from diffusion_lab.experiments import tracking
from diffusion_lab.experiments.runs import Run


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
