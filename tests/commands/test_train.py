"""End to end on a few real digits: train, score, evaluate, sample, skip, resume."""

import csv
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageSequence

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.plan import job_of
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import next_commands, train, training_config
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.report import report
from diffusion_lab.tasks.denoiser import DenoiserTask
from diffusion_lab.tasks.going_on import shorter_training
from diffusion_lab.training.callbacks import EpochLine
from tests.commands.test_edit import written_checkpoint
from tests.conftest import TINY, UNSCORED, MachineDied, composed

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
WATCHED = ("grid.every_n_epochs=1", "metrics.every_n_epochs=1")


@pytest.fixture
def run_of(tmp_path):
    """run_of("loss=mae", ...): train in a folder of its own and return its Run."""

    def trained(*overrides: str, folder: str = "run") -> Run:
        train(composed("train", *TINY, *overrides), str(tmp_path / folder), is_multirun=False)
        return Run(tmp_path / folder)

    return trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """One tiny run with every part, W&B offline included, shared by the tests that only look."""
    folder = tmp_path_factory.mktemp("outputs") / "tiny" / "finished"
    train(composed("train", *TINY, *WATCHED), str(folder), is_multirun=False)
    return Run(folder)


@pytest.fixture
def finished_copy(finished, tmp_path) -> Run:
    """The same run in the folder that `run_of` trains in, for tests that go on with it."""
    return Run(shutil.copytree(finished.folder, tmp_path / "run"))


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


def test_evaluate_repeats_the_figures_from_the_checkpoint_alone(finished, tmp_path):
    moved = tmp_path / "elsewhere.ckpt"
    moved.write_bytes(finished.last_checkpoint.read_bytes())
    evaluate_checkpoint(composed("evaluate", f"checkpoint={moved}"), str(tmp_path / "evaluation"), is_multirun=False)
    evaluation = json.loads((tmp_path / "evaluation/results.json").read_text())
    assert {key: evaluation[key] for key in FIGURES} == {key: finished.results()[key] for key in FIGURES}


def test_a_checkpoint_is_scored_by_the_figures_that_it_was_trained_to_be_scored_by(tmp_path, capsys):
    checkpoint = written_checkpoint(tmp_path / "x.ckpt", "metrics/figures=[errors]", "objective=image_loss", "grid.count=4")

    def evaluated(*overrides: str) -> float:
        cfg = composed("evaluate", f"checkpoint={checkpoint}", "sampler.steps=2", *overrides)
        return evaluate_checkpoint(cfg, str(tmp_path / "run"), is_multirun=False)

    said = {
        "objective=kid": r"objective=kid is not measured by metrics/figures=\[errors\]: take one of noise_loss, image_loss",
        "metrics.vlb_calls=3": "metrics.vlb_calls=3 asks for bits, which is none of the figures .*: take metrics=standard",
        f"metrics.classifier={checkpoint}": "metrics.classifier=.* asks for labels, which is none",
    }
    for typed, message in said.items():
        with pytest.raises(SystemExit):
            evaluated(typed)
        assert re.search(message, capsys.readouterr().err)
        assert not (tmp_path / "run").exists()
    assert evaluated() == Run(tmp_path / "run").results()["image_loss"] > 0


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


def test_evaluate_takes_other_choices(finished, tmp_path):
    overrides = (
        f"checkpoint={finished.last_checkpoint}",
        "sampler.steps=5",
        "metrics=reference",
        "metrics.samples=20",
        "seed=3",
        "logger=wandb",
    )
    evaluate_checkpoint(composed("evaluate", *overrides), str(tmp_path / "evaluation"), is_multirun=False)
    evaluation = json.loads((tmp_path / "evaluation/results.json").read_text())
    assert (evaluation["network_calls"], evaluation["samples"], evaluation["protocol"]) == (5, 20, "reference")
    assert evaluation["noise_loss"] == finished.results()["noise_loss"]
    assert evaluation["kid"] != finished.results()["kid"]
    assert (tmp_path / "evaluation/samples/final.png").is_file()
    assert list((tmp_path / "evaluation").glob("wandb/offline-run-*/files/media/images/final_samples*.png"))


def test_sample_draws_the_same_image_whatever_the_batch(finished, tmp_path):
    for folder, options in (("a", ("count=20", "batch_size=20")), ("b", ("count=18", "batch_size=5"))):
        sample_checkpoint(composed("sample", f"checkpoint={finished.last_checkpoint}", *options), str(tmp_path / folder))
    assert len(list((tmp_path / "a").glob("0*.png"))) == 20
    a, b = (np.asarray(Image.open(tmp_path / folder / "00017.png"), dtype=int) for folder in "ab")
    assert np.abs(a - b).max() <= 1
    assert Image.open(tmp_path / "a/grid.png").width > 100


def test_sample_label_changes_the_image(finished, tmp_path):
    for label in (3, 4):
        options = (f"checkpoint={finished.last_checkpoint}", "count=1", f"label={label}")
        sample_checkpoint(composed("sample", *options), str(tmp_path / str(label)))
    three, four = ((tmp_path / label / "00000.png").read_bytes() for label in "34")
    assert three != four


def test_sample_shows_the_way_from_noise_to_images(finished, tmp_path, capsys):
    options = ("count=7", "batch_size=4", "gif=true", "sampler=heun", "sampler.steps=7")
    sample_checkpoint(composed("sample", f"checkpoint={finished.last_checkpoint}", *options), str(tmp_path))
    with Image.open(tmp_path / "trajectory.gif") as gif, Image.open(tmp_path / "grid.png") as grid:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert sum(durations) == 7 * 500 + 2000  # of as many calls, and of the images; one like the one before is no frame
        assert 6 <= gif.n_frames <= 7 + 1
        assert gif.size == grid.size
        gif.seek(0)
        first = np.asarray(gif.convert("L"), dtype=float)
        gif.seek(gif.n_frames - 1)
        last, images = (np.asarray(picture.convert("L"), dtype=float) for picture in (gif, grid))
    assert np.abs(last - images).mean() < 3  # of 255: a GIF has 256 colours
    assert np.abs(first - images).mean() > 20
    assert "trajectory.gif" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m", "dpmpp_3m", "euler", "unipc"])
def test_evaluate_counts_the_calls_of_any_sampler(finished, tmp_path, sampler):
    if sampler == "unipc":
        pytest.importorskip("diffusers")
    overrides = (f"checkpoint={finished.last_checkpoint}", f"sampler={sampler}", "sampler.steps=4", "metrics.vlb_calls=2")
    overrides += ("metrics.samples=8",)
    evaluate_checkpoint(composed("evaluate", *overrides, "sampler/threshold=static"), str(tmp_path / sampler), False)
    evaluation = json.loads((tmp_path / sampler / "results.json").read_text())
    assert evaluation["network_calls"] == 4
    assert evaluation["choices"]["sampler"] == sampler
    assert evaluation["bits_per_dimension"] > evaluation["bits_per_dimension_error"] > 0


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


def test_figures_while_training_are_logged(finished):
    rows = list(csv.DictReader(finished.metrics_file.open()))
    assert len([row for row in rows if row["val/kid"]]) == 2


REFERENCE = ("network=reference_unet", "network.widths=[16,16]", "target=noise", "loss=mae", "schedule=linear_clipped")


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


def test_evaluate_finds_images_that_have_moved(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)).save(tmp_path / f"images/{i}.png")
    data = ("data=folder", "data.channels=1", "data.image_size=28", f"data.root={tmp_path}/images")
    train(composed("train", *TINY, *data, "epochs=1", "logger=csv"), str(tmp_path / "run"), is_multirun=False)
    (tmp_path / "images").rename(tmp_path / "moved")
    overrides = (f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"data.root={tmp_path}/moved")
    evaluate_checkpoint(composed("evaluate", *overrides), str(tmp_path / "evaluation"), is_multirun=False)
    figures = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "evaluation")]
    assert figures[0]["kid"] == figures[1]["kid"]


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
