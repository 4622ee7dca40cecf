"""What is there is not run again, and what is not finished goes on: a tiny run, typed again, killed, made longer."""

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.plan import job_of
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from diffusion_lab.training.callbacks import EpochLine
from tests.commands.conftest import WATCHED
from tests.conftest import TINY, UNSCORED, MachineDied, composed

FIGURES = ("noise_loss", "image_loss", "kid", "kid_std", "kid_image_error", "fid")


def test_a_finished_run_is_shown_not_run_again(run_of, finished_copy, capsys, monkeypatch):
    before = finished_copy.results_file.stat().st_mtime_ns
    monkeypatch.setattr("diffusion_lab.commands.train.decode_source", None)  # would fail if anything ran
    run = run_of("logger=csv", *WATCHED)
    assert run.results_file.stat().st_mtime_ns == before
    assert "Final figures" in capsys.readouterr().out


@pytest.mark.ci
def test_an_interrupted_run_ends_as_an_unbroken_one(run_of, monkeypatch):
    options = ("logger=csv", "epochs=3", "data.flip=true")
    unbroken = run_of(*options, folder="unbroken")

    def crash(self, trainer, module):
        if trainer.current_epoch == 1:
            raise MachineDied

    with monkeypatch.context() as patched:
        patched.setattr(EpochLine, "on_train_epoch_end", crash)
        with pytest.raises(MachineDied):
            run_of(*options, folder="broken")
    broken = Run(unbroken.folder.with_name("broken"))
    assert not broken.results()
    assert load_checkpoint(broken.last_checkpoint).state["epoch"] == 0
    run_of(*options, folder="broken")
    for key in (*FIGURES, "epochs", "steps"):
        assert broken.results()[key] == unbroken.results()[key], key
    curves = [
        [(row["step"], row["train/loss_step"], row["val/image_loss"]) for row in csv.DictReader(run.metrics_file.open())]
        for run in (broken, unbroken)
    ]
    assert curves[0] == curves[1]


def test_another_budget_is_another_run(run_of, finished_copy):
    assert finished_copy.results()["epochs"] == 2
    run = run_of("logger=csv", "epochs=1")
    assert run.results()["epochs"] == 1
    assert len(list(run.folder.parent.glob("run~*"))) == 1


@pytest.mark.ci
def test_a_finished_run_trained_longer_is_the_one_trained_so_long_at_once(run_of, caplog):
    caplog.set_level("INFO", "diffusion_lab")
    options = (*UNSCORED, "logger=csv", "learning_rate=constant", "data.flip=true")
    run_of(*options, "epochs=1", folder="epochs-1")
    whole = run_of(*options, "epochs=3", folder="epochs-3")
    assert "begins at step 0; to go on from the same run after 1 epoch, 5 steps, add resume_from=" in caplog.text
    longer = run_of(*options, "epochs=3", f"resume_from={whole.folder.with_name('epochs-1')}", folder="longer")
    first, second = (load_checkpoint(run.last_checkpoint) for run in (whole, longer))
    assert all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)
    for key in ("noise_loss", "image_loss", "epochs", "steps"):
        assert longer.results()[key] == whole.results()[key]
    assert [row["val/image_loss"] for row in longer.curves() if "val/image_loss" in row] == [
        row["val/image_loss"] for row in whole.curves() if "val/image_loss" in row
    ]


def test_a_schedule_of_the_learning_rate_is_that_of_the_whole(run_of, finished, caplog):
    caplog.set_level("INFO", "diffusion_lab")
    longer = run_of(*UNSCORED, "logger=csv", "epochs=4", f"resume_from={finished.last_checkpoint}", folder="longer")
    rates = [row["lr-Muon/pg1"] for row in longer.curves() if "lr-Muon/pg1" in row]
    total, step = 20, 10  # of warmup_cosine, which rose in the first
    expected = 2e-3 * (1 + np.cos(np.pi * (step - 1) / (total - 1))) / 2
    assert f"learning rate: {expected:.3g} from here, as its schedule over 4 epochs has it after 50 %" in caplog.text
    assert rates[-1] < expected < 2e-3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=2"], "has 2 epochs behind it: take more than epochs=2"),
        (["epochs=4", "network.widths=[16,24]"], "is of another training: model.network.widths"),
    ],
)
def test_what_cannot_be_gone_on_with_leaves_nothing(run_of, finished, tmp_path, capsys, overrides, message):
    with pytest.raises(SystemExit):
        run_of(*UNSCORED, *overrides, f"resume_from={finished.folder}", folder="longer")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "longer").exists()


def pictures(folder: Path, seed: int = 0) -> tuple[str, ...]:
    """Sixty images of noise in `folder`, and the overrides that train on them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)).save(folder / f"{i}.png")
    return (
        "data=folder",
        "data.channels=1",
        "data.image_size=28",
        f"data.root={folder}",
        "logger=csv",
        "epochs=1",
        *UNSCORED,
    )


def test_other_images_in_the_same_place_are_another_run(run_of, tmp_path):
    first = run_of(*pictures(tmp_path / "images")).results()
    assert run_of(*pictures(tmp_path / "images", seed=1)).results()["config_hash"] != first["config_hash"]
    assert len(list(tmp_path.glob("run~*"))) == 1


@pytest.mark.ci
def test_a_run_that_was_set_aside_is_gone_on_with(run_of, tmp_path, monkeypatch):
    def stop(self, trainer, module):
        if trainer.current_epoch == 1:
            raise MachineDied

    with monkeypatch.context() as patched, pytest.raises(MachineDied):
        patched.setattr(EpochLine, "on_train_epoch_end", stop)
        run_of("logger=csv", *UNSCORED)
    run_of("logger=csv", *UNSCORED, "epochs=1")
    begun = []
    monkeypatch.setattr(EpochLine, "on_train_epoch_end", lambda self, trainer, _: begun.append(trainer.current_epoch))
    assert run_of("logger=csv", *UNSCORED).results()["epochs"] == 2
    assert begun == [1]  # not anew
    assert len(list(tmp_path.glob("run~*"))) == 1


def test_a_job_that_fails_stays_in_its_place_and_goes_on_later(run_of, tmp_path, monkeypatch):
    """A failure was written under another hash than the run's: its checkpoints were set aside at each failure."""

    def crash(self, trainer, module):
        if trainer.current_epoch == 1:
            raise RuntimeError("the machine died")

    options = ("logger=csv", *UNSCORED)
    cfg = composed("train", *TINY, *options)
    with monkeypatch.context() as patched:
        patched.setattr(EpochLine, "on_train_epoch_end", crash)
        assert train(cfg, str(tmp_path / "run"), is_multirun=True) == np.inf
    run = Run(tmp_path / "run")
    assert run.results()["status"] == "failed"
    assert load_checkpoint(run.last_checkpoint).state["epoch"] == 0
    assert job_of({}, run, composed("train", *TINY, *options)).state == "failed before"
    assert run_of(*options).results()["epochs"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


class Trap:
    """Unpickling this makes a folder."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["TRAP"],))


@pytest.mark.ci
def test_a_checkpoint_of_another_person_in_the_runs_folder_runs_nothing(run_of, finished_copy, tmp_path, monkeypatch):
    """What is built to be scored is what was typed, whatever config the file carries."""
    run = finished_copy
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap()))
    state = torch.load(run.last_checkpoint, weights_only=True)
    state["config"]["model"]["conditions"]["names"] = {"_target_": "joblib.load", "filename": str(tmp_path / "trap.pkl")}
    torch.save(state, run.last_checkpoint)
    figures = {key: run.results()[key] for key in FIGURES}
    run.results_file.unlink()
    run_of("logger=csv", *WATCHED)
    assert not (tmp_path / "sprung").exists()
    assert {key: run.results()[key] for key in FIGURES} == figures
