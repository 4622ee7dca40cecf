"""What a user types: the grid, a kill, and mistakes."""

import itertools
import json
import os
import pickle
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from PIL import Image

from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from tests.conftest import PROJECT, TINY, UNSCORED, composed
from tests.experiments.wandb_file import history
from tests.typed import begin_command, kill, one_line_error, type_command


def test_a_grid_goes_on_past_a_failure_and_is_not_run_twice(tmp_path):
    arguments = ("-m", *TINY, *UNSCORED, "epochs=1", "logger=csv", "loss=mae,mse", "data.image_size=28,30")
    first = type_command(tmp_path, "train", *arguments)
    assert first.returncode == 1, first.stderr
    runs = {
        folder.name: json.loads((folder / "results.json").read_text())
        for folder in (tmp_path / "outputs/mnist_5k").glob("*/")
    }
    assert sorted(results["status"] for results in runs.values()) == ["failed", "failed", "finished", "finished"]
    assert len(runs) == 4
    assert "4 runs: 2 finished, 2 failed" in first.stdout
    assert first.stdout.count("network unet takes a multiple of 4 px and sees 30") >= 2
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("last.ckpt")}
    second = type_command(tmp_path, "train", *arguments)
    assert second.stdout.count("nothing is run again") == 2
    assert "4 runs: 2 finished, 2 failed" in second.stdout
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("last.ckpt")} == stamps


@pytest.mark.ci
def test_jobs_run_side_by_side(tmp_path):
    arguments = (
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        *TINY,
        *UNSCORED,
        "epochs=1",
        "seed=0,1",
    )
    result = type_command(tmp_path, "train", *arguments)
    assert result.returncode == 0, result.stderr
    assert "2 runs: 2 finished" in result.stdout
    assert len(list(tmp_path.rglob("offline-run-*"))) == 2  # each its own W&B run


@pytest.mark.ci
def test_killed_and_typed_again_it_ends_as_if_never_killed(tmp_path):
    arguments = [*TINY, "epochs=4", "grid.every_n_epochs=1", "metrics.samples=8"]
    assert type_command(tmp_path, "train", *arguments, "hydra.run.dir=unbroken").returncode == 0
    with begin_command(tmp_path, "train", *arguments, "hydra.run.dir=killed", "checkpoints.every_steps=3") as (process, _):
        while not (tmp_path / "killed/checkpoints/last.ckpt").exists():
            assert process.is_alive()
            time.sleep(0.02)
        kill(process)
    assert not (tmp_path / "killed/results.json").exists()
    assert type_command(tmp_path, "train", *arguments, "hydra.run.dir=killed").returncode == 0
    figures = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("killed", "unbroken")]
    for key in ("kid", "fid", "noise_loss", "image_loss", "steps", "config_hash"):
        assert figures[0][key] == figures[1][key]
    seconds = [row["train_seconds"] for row in Run(tmp_path / "killed").curves() if "train_seconds" in row]
    assert len(seconds) == 4
    assert all(before < after for before, after in itertools.pairwise(seconds))  # they go on, too
    assert seconds[-1] == pytest.approx(figures[0]["train_seconds"])
    assert seconds[-1] < figures[0]["fit_seconds"]  # which holds the validations as well
    killed, unbroken = (list((tmp_path / name).glob("wandb/offline-run-*/*.wandb")) for name in ("killed", "unbroken"))
    assert len(killed) == len(unbroken) == 1  # in W&B too it is one run, with one set of curves
    assert _curves(killed[0]) == _curves(unbroken[0])


def _curves(file: Path) -> dict[str, list]:
    rows = history(file)
    curves = {name: [] for name in ("train/loss_step", "val/noise_loss", "val/image_loss", "sample_grid.count")}
    for name, curve in curves.items():
        curve += [(row["trainer/global_step"], row[name]) for row in rows if name in row]
        assert len(curve) >= 4, name
    return curves


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epochs=0"], "epochs=0 must be a whole number, at least 1"),
        (["epochs=-1"], "epochs=-1 must be"),
        (["batch_size=0"], "batch_size=0 must be"),
        (["sampler.steps=0"], "sampler.steps=0 must be"),
        (["seed=x"], "seed=x must be"),
        (["data.on_error=hide"], "must be one of raise, skip"),
        (["data.image_size=30"], "network unet takes a multiple of 4 px and sees 30"),
        (["network=reference_unet"], "network reference_unet takes a multiple of 16 px and sees 28: change data.image_size"),
        (["data=folder"], "data.root is not set"),
        (["data=folder", "data.root=nowhere"], "data.root=nowhere is not a folder"),
        (["data=folder", "data.root=no_images"], "holds no images (looked for .jpg"),
        (["data=folder", "data.root=broken"], "/broken/empty.jpg ("),
        (["data=flowers", "data.root=nowhere"], "data.root=nowhere is not a folder"),
        (["metrics/extractor=inception", "metrics.extractor.weights=none.pth"], "metrics.extractor.weights=FILE"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_leave_nothing(tmp_path, arguments, message, monkeypatch, capsys):
    (tmp_path / "no_images").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/empty.jpg").write_bytes(b"")
    Image.new("RGB", (64, 64)).save(tmp_path / "broken/whole.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train(composed("train", *arguments), str(tmp_path / "outputs/name/run"), is_multirun=False)
    assert stopped.value.code == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert message in said[0]
    assert not (tmp_path / "outputs").exists()


def test_a_mistake_is_found_before_torch_is_imported(tmp_path):
    """Which takes seconds: a mistake is answered in one line and at once."""
    code = "import atexit, runpy, sys; atexit.register(lambda: print('torch' in sys.modules)); "
    code += f"sys.argv = ['train.py', 'epochs=0']; runpy.run_path({str(PROJECT / 'src/train.py')!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "epochs=0 must be a whole number, at least 1" in one_line_error(result)
    assert result.stdout.strip() == "False"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("word", "help_"), [("loss=nonsense", "mae"), ("epoch=3", "there is no epoch: is it epochs?")])
def test_unknown_words_are_answered_in_a_line(tmp_path, word, help_):
    result = type_command(tmp_path, "train", word)
    assert result.returncode == 1
    assert help_ in one_line_error(result)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("script", ["sample", "edit", "export"])
def test_what_is_made_within_one_second_has_folders_of_its_own(script):
    more = {"edit": ["edit=noise"], "export": ["format=onnx"]}.get(script, [])
    folders = set()
    for _ in range(3):
        composed(script, "checkpoint=any.ckpt", *more)
        folders.add(HydraConfig.get().run.dir)
    assert len(folders) == 3


class Trap:
    """Unpickling this would make a folder."""

    def __reduce__(self):
        return (os.mkdir, ("sprung",))


@pytest.fixture
def bad_checkpoints(tmp_path) -> Path:
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "other_program.ckpt")
    (tmp_path / "truncated.ckpt").write_bytes((tmp_path / "other_program.ckpt").read_bytes()[:300])
    torch.save({"config": {}, "state_dict": Trap()}, tmp_path / "trap.ckpt")
    (tmp_path / "old_trap.ckpt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"config": {"network": {}, "target": {}}, "state_dict": {}}, tmp_path / "older.ckpt")
    targets = {"network": "os.mkdir", "schedule": "diffusion_lab.experiments.runs.os.mkdir"}
    for name, target in targets.items():
        config = {"model": {name: {"_target_": target, "path": "sprung"}}}
        torch.save({"config": config, "state_dict": {}}, tmp_path / f"target_{name}.ckpt")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "is not a file"),
        ("truncated", "cannot be read"),
        ("text", "text.ckpt is not a checkpoint; a run's are in outputs/"),
        ("other_program", "was not written by diffusion-lab"),
        ("trap", "pickled code, which is never run"),
        ("old_trap", "pickled code, which is never run"),
        ("older", "is of an older diffusion-lab"),
        ("target_network", "names os.mkdir at model.network._target_; if you trust it"),
        ("target_schedule", "names diffusion_lab.experiments.runs.os.mkdir"),
    ],
)
def test_bad_checkpoints_get_one_line_and_run_nothing(bad_checkpoints, name, message, monkeypatch, capsys):
    monkeypatch.chdir(bad_checkpoints)
    for script, work in (("sample", sample_checkpoint), ("evaluate", partial(evaluate_checkpoint, is_multirun=False))):
        with pytest.raises(SystemExit) as stopped:
            work(composed(script, f"checkpoint={name}.ckpt"), str(bad_checkpoints / "outputs/name/run"))
        assert stopped.value.code == 1
        said = [line for line in capsys.readouterr().err.splitlines() if line]
        assert len(said) == 1
        assert said[0].startswith("error: ")
        assert message in said[0]
        assert not (bad_checkpoints / "sprung").exists()
        assert not (bad_checkpoints / "outputs").exists()


def test_a_bad_checkpoint_ends_a_command_with_one_line(bad_checkpoints):
    assert "is not a checkpoint" in one_line_error(type_command(bad_checkpoints, "sample", "checkpoint=text.ckpt"))


def test_help_and_config_need_no_torch(tmp_path):
    code = "import sys; sys.argv = ['train.py', '--help']; import runpy, atexit; "
    code += "atexit.register(lambda: print('torch' in sys.modules)); "
    code += f"runpy.run_path({str(PROJECT / 'src/train.py')!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "loss: huber, mae, mse" in result.stdout
    assert result.stdout.strip().endswith("False")
