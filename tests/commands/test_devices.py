"""Precision and devices: two processes on the CPU, bf16 on request."""

import pytest
import torch

from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import choose_precision, pick_device
from tests.conftest import TINY, needs_gpu
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
