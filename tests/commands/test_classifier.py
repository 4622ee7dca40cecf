"""End to end: classifiers of noisy and of clean digits train, are scored, skip, resume, and are told from denoisers."""

import csv

import pytest
import torch
import yaml
from PIL import Image

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments import tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.report import report
from diffusion_lab.sampling.guidance import classifier_guidance
from diffusion_lab.training.callbacks import EpochLine
from tests.commands.test_edit import written_checkpoint
from tests.conftest import MachineDied, composed

SMALL = (
    "experiment=noisy_classifier",
    "epochs=3",
    "batch_size=16",
    "data.max_images=400",
    "network.widths=[16,16]",
    "trainer.log_every_n_steps=5",
)
FIGURES = ("cross_entropy", "accuracy", "accuracy_by_time")
KEYS = {
    *FIGURES,
    *("real_images", "weights", "parameters", "epochs", "steps", "train_seconds", "fit_seconds", "train_images_per_second"),
    *(
        "held_out",
        "score_seconds",
        "devices",
        "images_per_step",
        "seed",
        "precision",
        "choices",
        "versions",
        "config_hash",
        "status",
        "figures",
        "alarms",
    ),
}


def trained(folder, *overrides: str) -> Run:
    train(composed("train", *SMALL, *overrides), str(folder), is_multirun=False)
    return Run(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """One small run on noisy digits, W&B offline included, shared by the tests that only look."""
    return trained(tmp_path_factory.mktemp("outputs") / "small")


def test_leaves_its_figures_and_a_picture(finished):
    results = finished.results()
    assert results.keys() == KEYS
    assert results["status"] == "finished"
    assert (results["weights"], results["epochs"], results["real_images"]) == ("averaged", 3, 86)
    assert results["accuracy_by_time"]["0"] > 0.5  # guessing is 0.1
    assert results["accuracy_by_time"]["1"] < 0.25
    assert set(results["choices"]) == {"task", "data", "network", "schedule", "times", "level", "space"}
    assert Image.open(finished.accuracy).width > 500
    assert list(finished.folder.glob("wandb/offline-run-*/files/media/images/accuracy*.png"))
    assert not finished.final_grid.exists()
    rows = list(csv.DictReader(finished.metrics_file.open()))
    assert [len([row for row in rows if row[curve]]) for curve in ("train/loss_epoch", "val/accuracy")] == [3, 3]
    assert finished.epochs_done() == 3
    last = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]][-1]
    assert last == pytest.approx(results["accuracy"])
    assert tracking.best_of_curves(finished)["best/val/accuracy"] >= last


@pytest.mark.ci
def test_a_finished_run_is_shown_and_an_interrupted_one_ends_as_an_unbroken_one(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("diffusion_lab.metrics.features.EfficientNetLite0", None)  # nothing is drawn, so nothing is compared

    def crash(self, trainer, module):
        if trainer.current_epoch == 1:
            raise MachineDied

    with monkeypatch.context() as patched, pytest.raises(MachineDied):
        patched.setattr(EpochLine, "on_train_epoch_end", crash)
        trained(tmp_path, "logger=csv")
    assert load_checkpoint(tmp_path / "checkpoints/last.ckpt").state["epoch"] == 0
    for _ in range(2):
        run = trained(tmp_path, "logger=csv")
        for key in (*FIGURES, "epochs", "steps", "config_hash"):
            assert run.results()[key] == finished.results()[key], key
        monkeypatch.setattr("diffusion_lab.commands.train.decode_source", None)  # would fail if anything ran again
    said = capsys.readouterr().out
    assert said.count("cross_entropy") >= 2 and "KID" not in said
    assert str(run.accuracy) in said


def test_a_checkpoint_becomes_a_judge_that_wants_no_gradients(finished):
    checkpoint = load_checkpoint(finished.last_checkpoint)
    judge = checkpoint.model(NoisyClassifier)
    assert not judge.training
    key = "network.stem.weight"
    torch.testing.assert_close(judge.state_dict()[key], checkpoint.weights[key])
    guided = classifier_guidance(checkpoint.model(NoisyClassifier), finished.last_checkpoint)
    assert not any(parameter.requires_grad for parameter in guided.classifier.parameters())
    noisy = torch.randn(2, 1, 28, 28, requires_grad=True)
    assert torch.autograd.grad(judge(noisy, torch.tensor([0.1, 0.9])).sum(), noisy)[0].abs().amax((1, 2, 3)).min() > 0


def test_checkpoints_of_the_other_kind_get_one_line(finished, tmp_path):
    with pytest.raises(UserError, match=r"is of a NoisyClassifier; give that of a Denoiser, which train\.py leaves"):
        load_checkpoint(finished.last_checkpoint).model(Denoiser)
    denoiser = written_checkpoint(tmp_path / "denoiser.ckpt")
    with pytest.raises(UserError, match="is of a NetworkDenoiser; give that of a NoisyClassifier, which train"):
        load_checkpoint(denoiser).model(NoisyClassifier)


def test_clean_digits_are_read_alike_at_all_times_and_seeds_are_compared(tmp_path):
    clean = (*SMALL[1:], "experiment=classifier", "epochs=2", "logger=csv", "ema=null")
    runs = [Run(tmp_path / f"seed-{seed}") for seed in (0, 1)]
    figures = [train(composed("train", *clean, f"seed={i}"), str(run.folder), True) for i, run in enumerate(runs)]
    for run, figure in zip(runs, figures, strict=True):
        results = run.results()
        assert results["cross_entropy"] == figure < 1.8  # guessing is log 10 = 2.3
        assert set(results["accuracy_by_time"].values()) == {results["accuracy"]}
        assert results["weights"] == "last"
        assert yaml.safe_load(run.config_file.read_text())["data"]["shift"] == 2
    found = report(runs, "cross_entropy", "seeds")
    said = " ".join(sentence for section in found.sections for sentence in section.sentences)
    assert "Measured on mnist_5k at 28 px; 86 held-out images." in said
    assert found.cells.iloc[0]["cross_entropy"] == pytest.approx(sum(figures) / 2)
    assert "kid" not in found.cells


def test_data_without_labels_gets_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        Image.new("L", (32, 32), color=60 * i).save(tmp_path / f"{i}.png")
    overrides = ("experiment=noisy_classifier", "data=folder", f"data.root={tmp_path}", "data.image_size=32")
    with pytest.raises(SystemExit):
        train(composed("train", *overrides), str(tmp_path / "outputs/a/b"), is_multirun=False)
    message = "network=classifier needs 2 classes or more, and data.num_classes=0: take images with labels"
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "outputs").exists()


def test_reads_what_a_denoiser_draws(finished, tmp_path, capsys):
    """Noise of a network that was never trained is read right no more often than by chance; real digits far more often."""
    checkpoint = written_checkpoint(tmp_path / "untrained.ckpt", "data.max_images=400")
    settings = ("metrics.samples=60", "sampler.steps=2", f"metrics.classifier={finished.last_checkpoint}")
    evaluate_checkpoint(
        composed("evaluate", f"checkpoint={checkpoint}", *settings), str(tmp_path / "run"), is_multirun=False
    )
    results = Run(tmp_path / "run").results()
    assert results["label_accuracy"] < 0.35
    assert results["real_label_accuracy"] > 0.5
    assert "asked" in capsys.readouterr().out
