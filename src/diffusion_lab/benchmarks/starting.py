"""How long one waits before anything is trained."""

import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from diffusion_lab.benchmarks.timing import Figure

TRAIN = (sys.executable, "-m", "diffusion_lab", "train")


def waiting(folder: Path, rounds: int, seconds: float, job: list[str]) -> list[Figure]:
    """Seconds of --help, of a config error, and of a multirun's job beside its training and scoring, after the first."""
    help_time, error_time = (
        statistics.median(_seconds(folder, *arguments) for _ in range(rounds)) for arguments in (["--help"], ["epochs=0"])
    )
    return [
        Figure("train.py --help", help_time, "s", aim="< 1"),
        Figure("train.py with a mistake in the config", error_time, "s", aim="< 1"),
        Figure("a job of a multirun, beside training and scoring", _job_overhead(folder, rounds, job), "s", aim="< 1"),
    ]


def _seconds(folder: Path, *arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([*TRAIN, *arguments], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - start


def _job_overhead(folder: Path, jobs: int, job: list[str]) -> float:
    """The time from one job's results to the next one's, less what that one says it trained and scored."""
    seeds = ",".join(map(str, range(jobs + 1)))
    command = [*TRAIN, "-m", *job, f"seed={seeds}"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    written = sorted((folder / "outputs").rglob("results.json"), key=lambda file: file.stat().st_mtime)
    overheads = []
    for before, file in itertools.pairwise(written):
        results = json.loads(file.read_text())
        between = file.stat().st_mtime - before.stat().st_mtime
        overheads.append(between - results["train_seconds"] - results["score_seconds"])
    return statistics.median(overheads)
