"""End to end on a few real digits: what a training leaves behind."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.train import next_commands, train, training_config
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.report import report
from diffusion_lab.tasks.denoiser import DenoiserTask
from diffusion_lab.tasks.going_on import shorter_training
from tests.conftest import TINY, UNSCORED, composed

FIGURES = ("noise_loss", "image_loss", "kid", "kid_std", "kid_image_error", "fid")
KEYS = {
    *FIGURES,
    *("feature_extractor", "extractor_resolution", "protocol", "samples", "real_images", "network_calls", "weights"),
    *(
        "parameters",
        "epochs",
        "steps",
        "train_seconds",
        "fit_seconds",
        "score_seconds",
        "devices",
        "images_per_step",
        "train_images_per_second",
        "seed",
        "config_hash",
        "status",
    ),
    *("versions", "precision", "choices", "figures", "held_out", "units"),
    *("alarms", "spread", "spread_held_out", "copies", "copies_held_out"),
    *("mind", "improved_precision", "improved_recall", "density", "coverage"),
}
REFERENCE = ("network=reference_unet", "network.widths=[16,16]", "target=noise", "loss=mae", "schedule=linear_clipped")


def test_leaves_behind_what_design_promises(finished):
    results = finished.results()
    assert results.keys() == KEYS
    assert results["status"] == "finished"
    assert results["network_calls"] == 3
    assert results["weights"] == "averaged"
    assert results["feature_extractor"] == "efficientnet_lite0"
    assert (results["samples"], results["epochs"]) == (24, 2)
    config = yaml.safe_load(finished.config_file.read_text())
    assert config["choices"]["loss"] == "mse"
    assert config["network"]["channels"] == 1  # resolved
    for picture in ("epoch_0001", "epoch_0002", "final", "forward", "reverse"):
        assert Image.open(finished.samples / f"{picture}.png").width > 100
    assert list(finished.folder.glob("wandb/offline-run-*/*.wandb"))
    rows = list(csv.DictReader(finished.metrics_file.open()))
    for curve in (
        "train/loss_step",
        "train/loss_epoch",
        "val/noise_loss",
        "val/image_loss",
        "images_per_second",
        "lr-Muon/pg1",
    ):
        assert any(row[curve] for row in rows), curve
    assert any(float(row["final/kid"] or "nan") == results["kid"] for row in rows)


@pytest.mark.parametrize("name", ["last", "best"])
def test_checkpoints_hold_plain_values_and_the_config(finished, name):
    checkpoint = torch.load(finished.checkpoints / f"{name}.ckpt", weights_only=True)
    assert checkpoint["config"]["data"]["name"] == "mnist_5k"
    assert load_checkpoint(finished.checkpoints / f"{name}.ckpt").model(Denoiser).space.mean.shape == (1, 1, 1)


def test_saved_weights_are_the_averaged_ones(finished):
    checkpoint = load_checkpoint(finished.last_checkpoint)
    assert checkpoint.averaged
    raw = checkpoint.state["current_model_state"]["model.network.stem.weight"]
    assert (checkpoint.weights["network.stem.weight"] - raw).abs().max() > 0


def test_the_best_checkpoint_is_the_weights_without_what_a_training_goes_on_with(finished):
    """Both were written after the same epoch."""
    last, best = (load_checkpoint(finished.checkpoints / f"{name}.ckpt") for name in ("last", "best"))
    assert best.state["global_step"] == last.state["global_step"] and best.averaged
    assert all((best.weights[name] == weights).all() for name, weights in last.weights.items())
    assert best.path.stat().st_size < 0.4 * last.path.stat().st_size  # of three numbers a weight, one
    with pytest.raises(UserError, match=r"best\.ckpt holds weights alone, which init_from takes: give a run's last.ckpt"):
        shorter_training({**last.config, "resume_from": str(best.path)})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["metrics/figures=[errors]"], r"objective=kid is not measured by .*=\[errors\]: take one of noise_loss"),
        (["objective=bits_per_dimension"], "objective=bits_per_dimension is measured only where metrics.vlb_calls is set"),
        (["objective=label_accuracy"], "objective=label_accuracy is measured only where metrics.classifier is set"),
    ],
)
def test_an_objective_that_nothing_measures_is_known_before_training(run_of, overrides, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_of(*overrides)
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_figures_while_training_are_logged(finished):
    rows = list(csv.DictReader(finished.metrics_file.open()))
    assert len([row for row in rows if row["val/kid"]]) == 2


@pytest.mark.parametrize("options", [REFERENCE, ("ema=null", "optimizer=adam", "learning_rate=constant", "times=uniform")])
def test_learns_with_other_parts(tmp_path, options):
    tiny = [option for option in TINY if "reference_unet" not in options[0] or not option.startswith("network.")]
    more = (*UNSCORED, "logger=tensorboard", "epochs=4", *options)
    train(composed("train", *tiny, *more), str(tmp_path / "run"), is_multirun=False)
    run = Run(tmp_path / "run")
    assert run.results()["weights"] == ("last" if "ema=null" in options else "averaged")
    losses = [float(row["train/loss_epoch"]) for row in csv.DictReader(run.metrics_file.open()) if row["train/loss_epoch"]]
    assert losses[-1] < losses[0]
    assert list(Path(run.folder, "tensorboard").glob("events*"))


@pytest.mark.ci
def test_a_training_starts_from_weights_and_learns_from_a_teacher(run_of, finished, tmp_path):
    files = {name: tmp_path / f"{name}.ckpt" for name in ("start", "teacher")}
    for file in files.values():
        file.write_bytes(finished.last_checkpoint.read_bytes())
    options = (*UNSCORED, "logger=csv", "epochs=1", f"init_from={files['start']}")
    taught = ("teacher=checkpoint", f"teacher.checkpoint={files['teacher']}")
    run = run_of(*options, *taught, folder="taught")
    assert run.results()["image_loss"] < 1.1 * finished.results()["image_loss"]  # it stays where it starts
    assert run.results()["choices"]["teacher"] == "checkpoint"
    fresh = run_of(*UNSCORED, "logger=csv", "epochs=1", folder="fresh")
    assert run.results()["image_loss"] < fresh.results()["image_loss"]
    before = run.results()["config_hash"]
    files["start"].write_bytes((finished.checkpoints / "best.ckpt").read_bytes() + b" ")  # another file of that name
    with pytest.raises(SystemExit):
        run_of(*options, *taught, "network.widths=[16,24]", folder="other")
    assert config_hash(training_config(composed("train", *TINY, *options, *taught), run)) != before


@pytest.mark.parametrize("budget", ["epochs=2", "steps=9", "minutes=1"])
@pytest.mark.parametrize("is_multirun", [False, True], ids=["one run", "of a multirun"])
def test_a_diverged_run_fails_and_never_ranks(tmp_path, is_multirun, budget, capsys):
    """It ranked first: its images were black, which KID likes better than a beginner's digits."""
    cfg = composed("train", budget, *TINY[1:], "logger=csv", "optimizer.lr=1e9")
    if is_multirun:
        assert train(cfg, str(tmp_path / "run"), is_multirun=True) == np.inf
    else:
        with pytest.raises(SystemExit):
            train(cfg, str(tmp_path / "run"), is_multirun=False)
        assert "error: training diverged: after step " in capsys.readouterr().err
    run = Run(tmp_path / "run")
    assert run.results()["status"] == "failed"
    assert "training diverged" in run.results()["error"]
    assert run.results()["config_hash"] == config_hash(run.config())
    assert run.config()["model"]["conditions"]["names"]  # not what was typed alone
    assert not list(tmp_path.glob("run~*"))
    assert not run.resumable
    assert not report([run], "kid", "test").cells.size


@pytest.mark.parametrize("samples", [2, 3])
def test_too_few_images_for_a_figure_are_refused_before_training(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("diffusion_lab.tasks.fitting.fit", pytest.fail)
    with pytest.raises(SystemExit):
        train(composed("train", *TINY, f"metrics.samples={samples}"), str(tmp_path / "run"), is_multirun=False)
    assert f"error: metrics.samples={samples} is too few for kid: at least 4" in capsys.readouterr().err


def test_the_next_commands_are_in_the_words_that_were_typed(tmp_path):
    """The name, beside whose runs they belong; the seed, without which resume_from would be of another training."""
    run = Run(tmp_path / "run")
    run.begin({"minutes": 1, "steps": 30})
    typed = ["loss=mae", "name=mine", "seed=3", "minutes=1", "steps=30", "out=there"]
    sample, longer, compared = next_commands(DenoiserTask, run, {"epochs": 1}, typed)
    assert sample == ("sample", f"checkpoint={run.last_checkpoint} count=36 seed=1")
    assert longer == ("train", f"loss=mae name=mine seed=3 minutes=2 resume_from={run.folder}")
    assert compared == ("train", "-m name=mine seed=3 loss=mae,mse schedule=linear,cosine minutes=1 steps=30")
    assert next_commands(DenoiserTask, run, {"epochs": 18}, [])[-1][1].endswith("schedule=linear,cosine epochs=2")
