"""Commands killed by signal 9 at random moments, and typed again until they end: is anything lost?"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch

from diffusion_lab.conf_path import PROJECT
from diffusion_lab.experiments.runs import Run
from diffusion_lab.torture.command_lines import TINY
from diffusion_lab.torture.trial import Outcome
from diffusion_lab.torture.typed import begin_command, environment, kill, type_command

SETTINGS = (*(word for word in TINY if not word.startswith("epochs")), "epochs=3", "name=torture")
GRID = ("-m", "loss=mae,mse")
COMMANDS = {  # what is typed, and up to how many times as long as a run takes it is left alone
    "a run": ((), 1.2),
    "a grid": (GRID, 1.8),
    "jobs side by side": ((*GRID, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 8),  # in processes that begin anew
}
MOST = 12  # kills of one command
LONG = 300  # seconds that the last one may take
PATIENCE = 60  # seconds for jobs to see that their command was killed, and to end
NOT_COMPARED = ("seconds", "versions", "per_second")  # the clock


def unbroken(folder: Path) -> tuple[dict[str, Run], float]:
    """The runs that the broken ones are compared with, by name: those of a run and of a grid; and the seconds of one."""
    for words in (GRID, ()):
        began = time.monotonic()
        done = type_command(folder, "train", *words, *SETTINGS)
        if done.returncode:
            raise RuntimeError(done.stderr)
    return runs_in(folder), time.monotonic() - began


def try_one(
    random: Random, folder: Path, whole: dict[str, Run], seconds: float, what: str | None = None
) -> tuple[int, Outcome]:
    """How many kills it took, and whether weights and figures are those of `whole`, bit for bit.

    Args:
        seconds: that a run takes on this machine.
        what: one of COMMANDS; None: at random.
    """
    what = what or random.choices([*COMMANDS], (6, 3, 1))[0]
    words, longest = COMMANDS[what]
    groups = []
    for kills in range(MOST + 1):
        with _begun(folder, words, groups) as wait:
            status, told = wait(random.uniform(0.1, longest) * seconds if kills < MOST else LONG)
        if status is not None:
            break
    given = f"{what}, {kills} kills"
    if status is None:
        return kills, Outcome("hang", given)
    if status:
        return kills, Outcome("wrong exit status", given, f"{status}: {told}")
    names = [name for name in whole if ("loss" in name) == bool(words)]
    lost = [differences(runs_in(folder).get(name), whole[name]) for name in names]
    left = [str(path) for path in folder.rglob(".*") if path.is_file()] + _left_running(groups)
    return kills, Outcome("lost" if any(lost) or left else "worked", given, "; ".join([*filter(None, lost), *left]))


@contextlib.contextmanager
def _begun(folder: Path, words: tuple[str, ...], groups: list[int]) -> Iterator:
    """`train.py` typed in `folder`: a function that waits some seconds and returns its exit status, None where it still
    runs, and the end of what it said. At the end it is killed.

    Args:
        groups: the group of processes is added to them, where it is killed itself and not its jobs.
    """
    if not any("joblib" in word for word in words):
        with begin_command(folder, "train", *words, *SETTINGS) as (process, said):

            def wait(seconds: float) -> tuple[int | None, str]:
                process.join(seconds)
                return process.exitcode, said[1].read_text().strip()[-200:] if said[1].is_file() else ""

            yield wait
            kill(process)
        return
    command = [sys.executable, str(PROJECT / "src/train.py"), *words, *SETTINGS]  # its jobs are processes that begin anew
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True, **quiet)
    groups.append(process.pid)

    def wait(seconds: float) -> tuple[int | None, str]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode, ""

    try:
        yield wait
    finally:
        process.kill()  # itself alone: the jobs that it began have to see to their own end
        process.wait()


def _left_running(groups: list[int]) -> list[str]:
    """Which groups have a process yet after a while; it is killed."""
    until, left = time.monotonic() + PATIENCE, []
    for group in groups:
        try:
            while time.monotonic() < until:
                os.killpg(group, 0)
                time.sleep(0.1)
            os.killpg(group, signal.SIGKILL)
            left.append(f"a job of process {group} stays")
        except ProcessLookupError:
            continue
    return left


def runs_in(folder: Path) -> dict[str, Run]:
    """The runs below a folder in which SETTINGS were typed, by name."""
    return {path.name: Run(path) for path in (folder / "outputs/torture").glob("[!.]*/")}


def differences(run: Run | None, whole: Run) -> str:
    """In what two finished runs differ, nothing if in nothing."""
    if run is None or not run.finished():
        return f"{whole.folder.name} is not finished"
    ours, theirs = (torch.load(each.last_checkpoint, weights_only=True)["state_dict"] for each in (run, whole))
    found = [f"weights {key}" for key in theirs if not torch.equal(ours[key], theirs[key])]
    ours, theirs = (json.loads(each.results_file.read_text()) for each in (run, whole))
    found += [key for key in theirs if not any(word in key for word in NOT_COMPARED) and ours.get(key) != theirs[key]]
    return ", ".join(found)
