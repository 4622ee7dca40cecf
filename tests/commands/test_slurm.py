"""SLURM, on a cluster of this machine alone: a training of two tasks, and a sweep whose jobs are submitted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffusion_lab.experiments.runs import Run
from tests.commands.test_devices import TOGETHER, assert_the_same_training
from tests.conftest import PROJECT, TINY, UNSCORED
from tests.slurm import cluster, missing
from tests.typed import type_command

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

PYTHON = (sys.executable, str(PROJECT / "src/train.py"))
TWO_TASKS = ("srun", "--ntasks=2", "--kill-on-bad-exit=1", *PYTHON, *TOGETHER, "trainer=ddp_cluster", "batch_size=16")
SWEEP = (
    *("-m", *TINY, *UNSCORED, "epochs=3", "data.max_images=800", "logger=csv", "trainer.accelerator=cpu"),
    *("loss=mae,mse", "schedule=linear,cosine"),
)
SUBMITTED = (
    *("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5", "hydra.launcher.signal_delay_s=10"),
    "hydra.launcher.cpus_per_task=1",
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, cache_dir) -> Iterator[dict[str, str]]:
    """The environment of a cluster's user."""
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def wait_for(what, seconds: float = 240):
    """What `what()` gives, once that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not after {seconds} s"
        time.sleep(0.3)
    return found


def processes_of(task: int, word: str) -> list[int]:
    """The processes of a step's task on whose command line `word` stands, the oldest first."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment, typed = ((place / name).read_bytes().split(b"\0") for name in ("environ", "cmdline"))
        except OSError:
            continue
        if f"SLURM_PROCID={task}".encode() in environment and word.encode() in typed:
            found.append(int(place.name))
    return sorted(found)


def test_two_tasks_of_srun_train_as_one(slurm, tmp_path):
    """The same curves to 1e-5, one run, one W&B run."""
    alone = type_command(tmp_path, "train", *TOGETHER, "batch_size=32", "hydra.run.dir=one")
    assert alone.returncode == 0, alone.stderr
    ways = {"cwd": tmp_path, "env": slurm, "capture_output": True, "text": True}
    together = subprocess.run([*TWO_TASKS, "hydra.run.dir=two"], **ways, timeout=300, check=False)
    assert together.returncode == 0, together.stderr
    assert_the_same_training(tmp_path / "one", tmp_path / "two")
    assert "srun --ntasks=2 --kill-on-bad-exit=1" in together.stdout  # to train longer
    assert len(list(tmp_path.glob("two/wandb/offline-run-*"))) == 1


def test_a_task_that_dies_ends_the_job_with_a_line_and_the_same_command_goes_on(slurm, tmp_path):
    typed = [*TWO_TASKS, "hydra.run.dir=run", "epochs=20", "logger=csv", *UNSCORED, "metrics.every_n_epochs=null"]
    with (tmp_path / "said").open("w") as said:
        job = subprocess.Popen(typed, cwd=tmp_path, env=slurm, stdout=said, stderr=said)
        wait_for((tmp_path / "run/checkpoints/last.ckpt").is_file)
        os.kill(processes_of(1, "hydra.run.dir=run")[0], signal.SIGKILL)
        assert job.wait(60) != 0
    assert "error: another process of this training has ended" in (tmp_path / "said").read_text()
    assert not Run(tmp_path / "run").finished()
    again = subprocess.run(typed, cwd=tmp_path, env=slurm, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on from the checkpoint after step" in again.stdout
    assert Run(tmp_path / "run").results()["epochs"] == 20


def table(said: str) -> list[str]:
    """The lines of the report's table, without the last column: how long was trained."""
    return [line.rsplit("│", 2)[0] for line in said.splitlines() if line.startswith(("│", "Lowest"))]


def test_a_sweep_one_of_whose_jobs_is_preempted_has_the_report_of_one_without(slurm, tmp_path):
    alone = type_command(tmp_path, "train", *SWEEP, "hydra.sweep.dir=one")
    assert alone.returncode == 0, alone.stderr
    with (tmp_path / "said").open("w") as said:
        typed = [*PYTHON, *SWEEP, *SUBMITTED, "hydra.sweep.dir=two"]
        sweep = subprocess.Popen(typed, cwd=tmp_path, env=slurm, stdout=said, stderr=said)
        begun = wait_for(lambda: list(tmp_path.glob("two/*/checkpoints/last.ckpt")))[0].parents[1].name
        subprocess.run(["srun", "--partition=urgent", "--exclusive", "true"], env=slurm, check=True, timeout=60)
        requeued = subprocess.run(["squeue", "-h", "-o", "%r"], env=slurm, capture_output=True, text=True, check=True)
        assert sweep.wait(300) == 0, (tmp_path / "said").read_text()
    restarted = subprocess.run(["scontrol", "show", "job", "-o"], env=slurm, capture_output=True, text=True, check=True)
    assert "Restarts=1" in restarted.stdout, requeued.stdout
    assert table((tmp_path / "said").read_text()) == table(alone.stdout)
    for folder in tmp_path.glob("one/*loss*"):
        one, two = (Run(tmp_path / which / folder.name).results() for which in ("one", "two"))
        assert two["noise_loss"] == one["noise_loss"], begun
    assert not list(tmp_path.glob("two/.*lock")) and not list(tmp_path.glob("two/.jobs-*"))
