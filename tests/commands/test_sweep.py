"""Sweeps as a user types them: listed, run, really killed, run again, reported."""

import csv
import json
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT, TINY
from tests.typed import begin_command, kill, one_line_error, type_command

SWEEPS = PROJECT / "sweeps"
COSTS = ("train_seconds", "fit_seconds")  # what two runs of the same thing may differ in


def tiny_sweep(folder: Path, **changes) -> str:
    sweep = yaml.safe_load((SWEEPS / "quick.yaml").read_text())
    fixed = {key: {"value": yaml.safe_load(value)} for key, value in (override.split("=") for override in TINY)}
    sweep["parameters"] |= {**fixed, "epochs": {"value": 2}, "logger": {"value": "csv"}, "schedule": {"value": "linear"}}
    sweep["parameters"] |= {"metrics/figures": {"value": ["errors"]}}
    sweep |= {"metric": {"name": "noise_loss", "goal": "minimize"}, **changes}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(sweep))
    return "tiny.yaml"


def cells(folder: Path) -> list[dict]:
    with (folder / "outputs/quick/report.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in COSTS} for row in csv.DictReader(file)]


@pytest.mark.ci
def test_killed_anywhere_and_typed_again_the_report_is_the_same(tmp_path):
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "killed").mkdir()
    unbroken = type_command(tmp_path / "unbroken", "sweep", tiny_sweep(tmp_path / "unbroken"))
    assert unbroken.returncode == 0, unbroken.stderr
    assert "4 jobs: 0 finished, 0 begun, 4 to run" in unbroken.stdout
    assert "over 2 pairs (loss)" in unbroken.stdout

    file, runs = tiny_sweep(tmp_path / "killed"), tmp_path / "killed/outputs/quick"
    second = runs / "loss-mse_seed-0"
    with begin_command(tmp_path / "killed", "sweep", file) as (process, _):
        while not (second / "checkpoints/last.ckpt").is_file():
            assert process.is_alive()
            time.sleep(0.02)
        kill(process)
    first = runs / "loss-mae_seed-0/checkpoints/last.ckpt"
    stamp = first.stat().st_mtime_ns
    assert not (second / "results.json").exists()

    listed = type_command(tmp_path / "killed", "sweep", file, "--dry-run")
    assert "4 jobs: 1 finished, 1 begun, 2 to run; about" in listed.stdout
    assert " of 2 epochs" in listed.stdout
    assert not (runs / "report.csv").exists()

    again = type_command(tmp_path / "killed", "sweep", file)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing is run again") == 1
    assert first.stat().st_mtime_ns == stamp
    assert cells(tmp_path / "killed") == cells(tmp_path / "unbroken")
    assert yaml.safe_load((runs / "sweep.yaml").read_text())["parameters"]["loss"] == {"values": ["mae", "mse"]}

    other = type_command(tmp_path / "killed", "sweep", file, "epochs=3", "--dry-run")
    assert "4 jobs: 0 finished, 0 begun, 4 to run" in other.stdout  # another configuration is never taken for a finished job


def test_a_search_goes_on_from_its_figures_and_failures_are_reported(tmp_path):
    rates = {"optimizer.lr": {"values": [1e-3, 2e-3]}, "data.image_size": {"values": [28, 30]}, "seed": {"value": 0}}
    file = tiny_sweep(tmp_path, method="random", run_cap=3)
    sweep = yaml.safe_load((tmp_path / file).read_text())
    sweep["parameters"] = {**sweep["parameters"], **rates, "epochs": {"value": 1}, "loss": {"value": "mae"}}
    (tmp_path / file).write_text(yaml.safe_dump(sweep))
    result = type_command(tmp_path, "sweep", file)
    finished = [p for p in tmp_path.rglob("results.json") if json.loads(p.read_text())["status"] == "finished"]
    failed = [p for p in tmp_path.rglob("results.json") if json.loads(p.read_text())["status"] == "failed"]
    assert result.returncode == bool(failed), result.stderr
    assert len(finished) + len(failed) >= 1
    report = (tmp_path / "outputs/quick/report.md").read_text()
    assert report.count("network unet takes a multiple of") == len(failed)


TWO_PROCESSES = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


@pytest.mark.parametrize(
    "trainer",
    [pytest.param((), marks=pytest.mark.ci), pytest.param(TWO_PROCESSES, marks=pytest.mark.slow)],
    ids=["one", "two"],
)
def test_jobs_far_behind_are_stopped_early_and_stay_so(trainer, tmp_path):
    hyperband = {"type": "hyperband", "min_iter": 1, "eta": 2}
    file = tiny_sweep(tmp_path, method="grid", early_terminate=hyperband)
    overrides = ("optimizer.lr=1e-3,1e-6", "loss=mse", "seed=0", "epochs=2", *trainer)
    result = type_command(tmp_path, "sweep", file, *overrides)
    assert result.returncode == 0, result.stderr
    assert "2 runs: 1 finished, 1 stopped early" in result.stdout
    runs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("results.json")}
    assert runs["optimizer.lr-0.001"]["status"] == "finished"
    assert runs["optimizer.lr-1e-06"]["status"] == "stopped early"
    assert runs["optimizer.lr-1e-06"]["error"].startswith("after epoch 1, val/image_loss")
    again = type_command(tmp_path, "sweep", file, *overrides)
    assert again.returncode == 0, again.stderr
    assert "2 jobs: 1 finished, 1 stopped early, 0 begun, 0 to run" in again.stdout
    assert "epoch 1 of 2" not in again.stdout


@pytest.mark.slow
def test_samplers_of_one_checkpoint(tmp_path):
    trained = type_command(tmp_path, "train", *TINY, "epochs=1", "logger=csv", "hydra.run.dir=trained")
    assert trained.returncode == 0, trained.stderr
    overrides = ("checkpoint=trained/checkpoints/last.ckpt", "sampler=ddim,ddpm", "sampler.steps=2,3")
    arguments = (str(SWEEPS / "samplers.yaml"), *overrides)
    result = type_command(tmp_path, "sweep", *arguments)
    assert result.returncode == 0, result.stderr
    assert "so they are listed, not ranked" not in result.stdout  # two samplers at each count are comparable
    assert result.stdout.count("Ranking by KID (") == 2
    assert (tmp_path / "outputs/samplers/report_pictures/kid_against_network_calls.png").is_file()
    assert type_command(tmp_path, "sweep", *arguments).stdout.count("nothing is run again") == 4


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("sweep", ["none.yaml"], "none.yaml is not a file"),
        ("sweep", ["broken.yaml"], "has no `program`"),
        ("sweep", ["group.yaml", "--dry-run"], "loss=[[mae],[mse]] must name one of the choices below conf/loss"),
        ("sweep", ["elsewhere.yaml"], "program src/other.py is not run: it must be src/train.py or src/evaluate.py"),
        ("sweep", ["elsewhere.yaml", "--dry-run"], "program src/other.py is not run"),
        (
            "sweep",
            [str(SWEEPS / "samplers.yaml"), "checkpoint=none.ckpt", "sampler=ddim", "sampler.steps=2"],
            "checkpoint=none.ckpt is not a file",
        ),
        (
            "sweep",
            [str(SWEEPS / "quick.yaml"), "data=flowers", "data.root=nowhere", "seed=0"],
            "data.root=nowhere is not a folder",
        ),
        ("sweep", [str(SWEEPS / "quick.yaml"), "epochs="], "epochs= must be a whole number"),
        ("evaluate", [], "checkpoint=FILE is missing"),
        ("report", ["nowhere"], "nowhere is not a folder"),
        ("report", ["empty"], "empty holds no runs (looked for results.json"),
        ("report", ["aside"], "aside holds only runs that were set aside, as run~1: copy one without its ~"),
        ("report", ["empty", "objective=speed"], "objective=speed must be one of kid, fid"),
        ("report", ["empty", "metric=kid"], "metric is not an option of report.py"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(tmp_path, script, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "aside/run~1").mkdir(parents=True)
    (tmp_path / "aside/run~1/config.yaml").touch()
    (tmp_path / "broken.yaml").write_text("method: grid")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/other.py").write_text("raise SystemExit(7)")
    (tmp_path / "elsewhere.yaml").write_text("{program: src/other.py, method: grid, parameters: {a: {values: [1]}}}")
    group = "{program: src/train.py, method: grid, parameters: {loss: {value: [[mae],[mse]]}}}"
    (tmp_path / "group.yaml").write_text(group)
    assert message in one_line_error(type_command(tmp_path, script, *arguments))
    assert not (tmp_path / "outputs").exists()
    assert not list((tmp_path / "empty").iterdir())


def test_a_sweep_over_folders_is_reported_too(tmp_path):
    small = (*TINY, "epochs=1", "logger=csv", "metrics/figures=[errors]", "schedule=linear", "loss=mae", "seed=0")
    file = tiny_sweep(tmp_path)
    result = type_command(tmp_path, "sweep", file, *small, "out=here,there")
    assert result.returncode == 0, result.stderr
    assert sorted(path.parent.parent.name for path in tmp_path.rglob("results.json")) == ["here", "there"]
    assert (tmp_path / "outputs/quick/report.md").is_file()


def test_unknown_keys_are_answered_by_hydra(tmp_path):
    result = type_command(tmp_path, "sweep", str(SWEEPS / "quick.yaml"), "epoch=3")
    assert result.returncode == 1
    assert "there is no epoch: is it epochs?" in result.stderr
    assert not (tmp_path / "outputs").exists()
