"""Files of a run damaged, and the command typed again: is it mended, or said in a line?"""

import functools
import shutil
from pathlib import Path
from random import Random

from diffusion_lab.experiments.runs import Run
from diffusion_lab.torture.folders import flipped
from diffusion_lab.torture.kills import SETTINGS, differences, runs_in
from diffusion_lab.torture.trial import Outcome
from diffusion_lab.torture.typed import type_command

FILES = (
    *("config.yaml", "results.json", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"),
    *("checkpoints/previous.ckpt", "cache/*/images.npy", "cache/*/beside.npz", "cache/features/*"),
)
DAMAGES = ("emptied", "cut", "a bit turned", "removed", "text", "a folder")


def try_one(random: Random, folder: Path, cache: Path, whole: Run) -> Outcome:
    """Damage one or two files of a run in `folder` that is finished, or that has yet to be scored; type `train` again, then
    `report`. What is finished then has the weights and figures of `whole`."""
    if not runs_in(folder):
        type_command(folder, "train", *SETTINGS)
    run = runs_in(folder)[whole.folder.name]
    if random.random() < 0.5:
        run.results_file.unlink(missing_ok=True)
    told = "; ".join(_damage(random, run.folder, cache) for _ in range(random.choice((1, 2))))
    trained = type_command(folder, "train", *SETTINGS)
    reported = type_command(folder, "report", "outputs/torture")
    for done in (trained, reported):
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if "Traceback" in done.stderr:
            return Outcome("traceback", told, done.stderr.strip().splitlines()[-1][:200])
        if done.returncode and len(lines) != 1:
            return Outcome("wrong exit status", told, f"{done.returncode}: {done.stderr[-200:]}")
    if trained.returncode:
        shutil.rmtree(folder / "outputs")  # as the line may have asked for
        return Outcome("one line", told, trained.stderr.strip()[-200:])
    lost = "" if "results.json a bit turned" in told else differences(run, whole)  # a digit is as good as another
    return Outcome("lost" if lost else "worked", told, lost)


def _damage(random: Random, run: Path, cache: Path) -> str:
    name, damage = random.choice(FILES), random.choice(DAMAGES)
    top, pattern = (cache, name.removeprefix("cache/")) if name.startswith("cache/") else (run, name)
    for file in [file for file in top.glob(pattern) if file.is_file()]:
        act = {
            "emptied": functools.partial(file.write_bytes, b""),
            "cut": lambda file=file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
            "a bit turned": lambda file=file: file.write_bytes(flipped(file.read_bytes(), random)),
            "text": functools.partial(file.write_text, "this is something else"),
        }
        if damage in act:
            act[damage]()
        else:
            file.unlink()
            if damage == "a folder":
                file.mkdir()
    return f"{name} {damage}"
