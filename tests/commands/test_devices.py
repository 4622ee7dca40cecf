"""Precision and devices: two processes on the CPU, bf16 on request."""

import re
import subprocess
import sys

import psutil
import pytest
import torch

from diffusion_lab.commands.edit import edit_images
from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import choose_precision, pick_device
from tests.commands.test_edit import written_checkpoint
from tests.commands.test_stopping import wait_until
from tests.conftest import PROJECT, TINY, UNSCORED, composed
from tests.typed import one_line_error, type_command


def test_precision_follows_the_processor(monkeypatch):
    cpu = torch.device("cpu")
    for features, expected in (({}, "32-true"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": True}, "bf16-mixed")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features)
        assert choose_precision("auto", cpu) == expected
    assert choose_precision("16-mixed", torch.device("cuda")) == "16-mixed"
    with pytest.raises(UserError, match="precision=16-mixed needs a GPU"):
        choose_precision("16-mixed", cpu)
    assert pick_device("cpu") == cpu


@pytest.mark.slow
def test_bf16_trains_scores_and_samples(tmp_path):
    result = type_command(tmp_path, "train", *TINY, "logger=csv", "trainer.precision=bf16-mixed", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    results = Run(tmp_path / "run").results()
    assert results["precision"] == "bf16-mixed"
    assert results["noise_loss"] < 1.2


TOGETHER = (
    *TINY,
    "logger.mode=offline",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "metrics.batch_size=5",  # which the processes share
    "metrics.every_n_epochs=1",
)


def curves(folder):
    """{(step, name): value} of what does not measure time."""
    timed = ("images_per_second", "train_seconds", "final/", "epoch")
    rows = Run(folder).curves()
    return {(row["step"], key): value for row in rows for key, value in row.items() if not key.startswith(timed)}


def torchrun(folder, processes, *options):
    """A training that torchrun has started."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    command += [str(PROJECT / "src/train.py"), *TOGETHER, "trainer=ddp_cluster", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def assert_the_same_training(alone, together):
    """The curves to 1e-5 and the figures to 1e-3: `together` by two processes, `alone` by one."""
    one, two = curves(alone), curves(together)
    assert one.keys() == two.keys()
    assert two == pytest.approx(one, abs=1e-5)
    one, two = Run(alone).results(), Run(together).results()
    assert {"kid", "fid", "noise_loss", "copies"} <= set(two["figures"]) == set(one["figures"])
    for key in two["figures"]:  # of weights that are the same to 1e-5
        assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-4), key
    for key in ("network_calls", "steps", "epochs"):
        assert two[key] == one[key]
    assert (two["devices"], two["images_per_step"]) == (2, 32)
    assert two["train_seconds"] > 0


SMALL = (*TOGETHER, *UNSCORED, "logger=csv", "epochs=1", "metrics.every_n_epochs=null")


@pytest.mark.ci
def test_two_small_processes_train_as_one(tmp_path):
    """The curves to 1e-5, rates among them; `test_two_processes_train_as_one` has all else."""
    train(composed("train", *SMALL, "batch_size=32", "optimizer.lr=2e-3"), str(tmp_path / "one"), is_multirun=False)
    scaled = ("batch_size=16", "optimizer.lr=1e-3", "lr_scaling=linear")
    together = torchrun(tmp_path, 2, *UNSCORED, *SMALL[-3:], *scaled, "hydra.run.dir=two")
    assert together.returncode == 0, together.stderr
    assert curves(tmp_path / "two") == pytest.approx(curves(tmp_path / "one"), abs=1e-5)


@pytest.mark.ci
def test_processes_end_when_torchrun_is_killed(tmp_path):
    """They went on training before, each for itself."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += [str(PROJECT / "src/train.py"), *SMALL, "trainer=ddp_cluster", "epochs=9999", "hydra.run.dir=run"]
    with (tmp_path / "said").open("w") as said:
        agent = psutil.Popen(command, cwd=tmp_path, stdout=said, stderr=said)
        wait_until((tmp_path / "run/checkpoints/last.ckpt").is_file, 120)
        processes = agent.children(recursive=True)
        assert len(processes) >= 2
        agent.kill()
        agent.wait()
    _, alive = psutil.wait_procs(processes, timeout=30)
    for each in alive:
        each.kill()
    assert not alive


@pytest.mark.ci
def test_the_mistake_of_a_spawned_process_is_one_line(tmp_path):
    options = ("trainer=ddp", "trainer.devices=2", "optimizer.lr=1e30", "batch_size=16")
    result = type_command(tmp_path, "train", *SMALL, *options)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert re.fullmatch(
        "error: training diverged: after step .* is not finite; take a lower optimizer.lr", one_line_error(result)
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "spawned"])
def test_two_processes_train_as_one(tmp_path, launcher):
    """The same curves to 1e-5, one run, one W&B run."""
    alone = type_command(tmp_path, "train", *TOGETHER, "batch_size=32", "hydra.run.dir=one")
    assert alone.returncode == 0, alone.stderr
    if launcher == "torchrun":
        together = torchrun(tmp_path, 2, "batch_size=16", "hydra.run.dir=two")
    else:
        options = ("batch_size=16", "trainer=ddp", "trainer.devices=2", "hydra.run.dir=two")
        together = type_command(tmp_path, "train", *TOGETHER, *options)
        assert "distributed" not in together.stderr  # nothing of Lightning's
    assert together.returncode == 0, together.stderr
    assert_the_same_training(tmp_path / "one", tmp_path / "two")
    assert len(list(tmp_path.glob("two/wandb/offline-run-*"))) == 1
    assert not list(tmp_path.glob(".*.lock"))


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
