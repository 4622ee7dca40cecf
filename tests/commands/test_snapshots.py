"""Averages of any length, of a training with snapshots."""

from pathlib import Path

import pytest
import torch

from diffusion_lab.averages import LENGTHS
from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from tests.conftest import TINY, UNSCORED, composed

OPTIONS = (*TINY, *UNSCORED, "snapshots=1", "learning_rate=constant", "logger=csv")


def trained(folder: Path, *overrides: str) -> Run:
    train(composed("train", *OPTIONS, *overrides), str(folder), is_multirun=False)
    return Run(folder)


def kept(run: Run) -> dict[float, dict[str, torch.Tensor]]:
    states = torch.load(run.last_checkpoint, weights_only=True)["callbacks"]
    return next(state["averages"] for key, state in states.items() if key.startswith("Snapshots"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return trained(tmp_path_factory.mktemp("snapshots") / "run")


def test_a_checkpoint_is_opened_with_an_average_of_any_length(run):
    exact = kept(run)
    for length in LENGTHS:
        made = load_checkpoint(run.last_checkpoint, ema_length=length).weights
        assert all(torch.allclose(made[name], each, atol=1e-5) for name, each in exact[length].items())
    between = load_checkpoint(run.last_checkpoint, ema_length=0.07).weights
    for name, each in exact[0.05].items():
        assert (between[name] - each).norm() <= (exact[0.1][name] - each).norm()


def test_a_training_that_was_gone_on_with_has_the_same(run, tmp_path):
    trained(tmp_path / "short", "epochs=1")
    longer = trained(tmp_path / "long", f"resume_from={tmp_path / 'short'}")
    theirs, ours = kept(longer), kept(run)
    for length in LENGTHS:
        assert all(torch.equal(theirs[length][name], each) for name, each in ours[length].items())


def test_lengths_are_evaluated_side_by_side(run, tmp_path):
    errors = []
    for length in ("0.05", "0.25"):
        options = (f"checkpoint={run.last_checkpoint}", f"model.ema_length={length}")
        evaluate_checkpoint(composed("evaluate", *options), str(tmp_path / length), is_multirun=False)
        results = Run(tmp_path / length).results()
        assert results["weights"] == "averaged"
        assert Run(tmp_path / length).config()["ema_length"] == float(length)
        errors.append(results["image_loss"])
    assert errors[0] != errors[1]
