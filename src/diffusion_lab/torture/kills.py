"""Commands killed by signal 9 at random moments, and typed again until they end: is anything lost?"""

import json
from pathlib import Path
from random import Random

import torch

from diffusion_lab.experiments.runs import Run
from diffusion_lab.torture.command_lines import TINY
from diffusion_lab.torture.trial import Outcome
from diffusion_lab.torture.typed import begin_command, kill, type_command

SETTINGS = (*(word for word in TINY if not word.startswith("epochs")), "epochs=3", "name=torture")
NOT_COMPARED = ("seconds", "versions", "per_second")  # the clock


def unbroken(folder: Path) -> Run:
    """The run that the broken ones are compared with."""
    done = type_command(folder, "train", *SETTINGS)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return _run(folder)


def try_one(random: Random, folder: Path, whole: Run) -> tuple[int, Outcome]:
    """How many kills it took, and whether weights and figures are those of `whole`, bit for bit."""
    kills, most = 0, 12
    while True:
        with begin_command(folder, "train", *SETTINGS) as (process, said):
            process.join(random.uniform(0.5, 6) if kills < most else 240)
            if process.exitcode is None and kills < most:
                kill(process)
                kills += 1
                continue
            status, told = process.exitcode, said[1].read_text().strip()[-200:]
        break
    if status:
        return kills, Outcome("wrong exit status", f"{kills} kills", f"{status}: {told}")
    lost = _differences(_run(folder), whole)
    return kills, Outcome("lost" if lost else "worked", f"{kills} kills", lost)


def _run(folder: Path) -> Run:
    return Run(next(iter((folder / "outputs/torture").glob("[!.]*"))))


def _differences(run: Run, whole: Run) -> str:
    """In what two finished runs differ, nothing if in nothing."""
    found = []
    ours, theirs = (torch.load(each.last_checkpoint, weights_only=True)["state_dict"] for each in (run, whole))
    found += [f"weights {key}" for key in theirs if not torch.equal(ours[key], theirs[key])]
    ours, theirs = (json.loads(each.results_file.read_text()) for each in (run, whole))
    found += [key for key in theirs if not any(word in key for word in NOT_COMPARED) and ours.get(key) != theirs[key]]
    found += [str(path) for path in run.folder.rglob(".*") if path.is_file()]
    return ", ".join(found)
