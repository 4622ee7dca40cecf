"""Precision and devices: two processes on the CPU, bf16 on request."""

import pytest
import torch

from diffusion_lab.commands.edit import edit_images
from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import choose_precision, pick_device
from tests.commands.test_edit import written_checkpoint
from tests.conftest import TINY, composed
from tests.needs import needs_gpu
from tests.typed import type_command


def test_precision_follows_the_processor(monkeypatch):
    cpu = torch.device("cpu")
    for features, expected in (({}, "32-true"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": True}, "bf16-mixed")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features)
        assert choose_precision("auto", cpu) == expected
    assert choose_precision("16-mixed", cpu) == "16-mixed"
    assert pick_device("cpu") == cpu


@pytest.mark.slow
def test_bf16_trains_scores_and_samples(tmp_path):
    result = type_command(tmp_path, "train", *TINY, "logger=csv", "trainer.precision=bf16-mixed", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    results = Run(tmp_path / "run").results()
    assert results["precision"] == "bf16-mixed"
    assert results["noise_loss"] < 1.2


@needs_gpu
def test_a_gpu_trains_the_same_command(tmp_path):
    """bf16, compiled with CUDA graphs, the images on the GPU: all chosen by themselves."""
    result = type_command(tmp_path, "train", *TINY, "logger=csv", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    results = Run(tmp_path / "run").results()
    assert results["precision"] == "bf16-mixed"
    assert results["noise_loss"] < 1.2


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path):
    options = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=run")
    result = type_command(tmp_path, "train", *TINY, *options)
    assert result.returncode == 0, result.stderr
    results = Run(tmp_path / "run").results()
    assert results["steps"] < 2 * 5  # each takes half of the five batches an epoch
    assert results["train_seconds"] > 0
    assert len(list(tmp_path.glob("run/wandb/offline-run-*"))) >= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", ["train", "sample", "edit", "evaluate"])
def test_a_gpu_that_is_not_there_is_one_line(script, tmp_path, capsys):
    accelerator = "trainer.accelerator=gpu" if script == "train" else "accelerator=gpu"
    act = {"train": train, "sample": sample_checkpoint, "edit": edit_images, "evaluate": evaluate_checkpoint}[script]
    more = [] if script == "train" else [f"checkpoint={written_checkpoint(tmp_path / 'x.ckpt')}"]
    more += ["edit=noise"] if script == "edit" else []
    multirun = {"is_multirun": False} if script in ("train", "evaluate") else {}
    with pytest.raises(SystemExit):
        act(
            composed(script, *more, *(TINY if script == "train" else ()), accelerator),
            str(tmp_path / "outputs/run"),
            **multirun,
        )
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert said == ["error: accelerator=gpu: PyTorch sees no GPU here; take cpu or auto"]
    assert not (tmp_path / "outputs").exists()
