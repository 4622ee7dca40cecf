"""A mistake costs seconds, and a failed picture costs nothing else."""

import re
from pathlib import Path

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from diffusion_lab.networks.reference_unet import ReferenceUNet
from diffusion_lab.sampling.samplers import ddim
from diffusion_lab.tasks import fitting
from tests.conftest import TINY, UNSCORED, composed

HERE = "tests.tasks.test_rehearsal"
ON = (*TINY, "logger=csv", "epochs=1", "rehearsal=true")


def broken(denoiser, noise, label=None, steps=2, **way):
    raise TypeError("no such\nthing")


def without_callback(denoiser, noise, label=None, steps=2, callback=None, **way):
    return ddim(denoiser, noise, label, steps=steps, **way)


def half_a_loss(reduction):
    def loss(prediction, truth):
        raise IndexError("half a loss")

    return loss


def trained(folder: Path, *overrides: str) -> Run:
    train(composed("train", *overrides), str(folder), is_multirun=False)
    return Run(folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [f"sampler._target_={HERE}.broken"],
            "scoring and drawing fails, tried on a few images .*: TypeError: no such thing",
        ),
        ([f"loss._target_={HERE}.half_a_loss"], "a training step fails, .*: IndexError: half a loss"),
    ],
    ids=["sampler", "loss"],
)
def test_a_mistake_is_known_before_training_and_leaves_nothing(tmp_path, monkeypatch, capsys, overrides, message):
    monkeypatch.setattr(fitting, "fit", pytest.fail)
    with pytest.raises(SystemExit):
        trained(tmp_path / "run", *ON, *overrides)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, line)
    assert not (tmp_path / "run").exists()


def test_a_picture_that_fails_costs_nothing_else(tmp_path, caplog):
    words = ("sampler=ddim", f"sampler._target_={HERE}.without_callback", *UNSCORED, "grid.every_n_epochs=1")
    run = trained(tmp_path / "run", *TINY, *words, "logger=csv", "epochs=1")
    assert run.finished()
    assert "the picture reverse_process could not be drawn: " in caplog.text
    assert {file.name for file in run.samples.iterdir()} == {
        "final.png",
        "forward.png",
        "epoch_0001.png",
        "denoised_0001.png",
    }


@pytest.mark.ci
def test_it_changes_nothing_and_calls_the_network_a_few_times(tmp_path, monkeypatch):
    """With all figures, a sampler of many steps, and a network that counts batches."""
    reference = ("network=reference_unet", "network.widths=[8,8]", "data.flip=true")
    words = (*(word for word in ON if not word.startswith("network")), *reference)
    calls, forward, counts = [], ReferenceUNet.forward, []

    def counted(self, *inputs):
        calls.append(len(inputs[0]))
        return forward(self, *inputs)

    def fit(task, module, *rest):
        counts.append(len(calls))
        assert all(parameter.grad is None for parameter in module.parameters())
        assert module.model.network.training
        return whole(task, module, *rest)

    whole = fitting.fit
    monkeypatch.setattr(ReferenceUNet, "forward", counted)
    monkeypatch.setattr(fitting, "fit", fit)
    runs = [trained(tmp_path / word, *words, f"rehearsal={word}", *UNSCORED) for word in ("true", "false")]
    weights = [load_checkpoint(run.last_checkpoint).weights for run in runs]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert runs[0].results()["config_hash"] == runs[1].results()["config_hash"]
    calls.clear()
    monkeypatch.setattr(fitting, "fit", lambda *_: counts.append(len(calls)) or {})
    with pytest.raises(KeyError):  # there are no results
        trained(tmp_path / "scored", *words, "sampler.steps=200")
    assert 3 <= counts[-1] <= 8
