"""Files of a run damaged, and the command typed again: is it mended, or said in a line?"""

import functools
from pathlib import Path
from random import Random

from diffusion_lab.torture.folders import flipped
from diffusion_lab.torture.kills import SETTINGS, _run
from diffusion_lab.torture.trial import Outcome
from diffusion_lab.torture.typed import type_command

FILES = (
    *("config.yaml", "results.json", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"),
    *("checkpoints/previous.ckpt", "cache/*/images.npy", "cache/*/beside.npz", "cache/features/*"),
)
DAMAGES = ("emptied", "cut", "a bit turned", "removed", "text", "a folder")


def try_one(random: Random, folder: Path, cache: Path) -> Outcome:
    """Damage one or two files of a run that is finished, or that has yet to be scored; type `train` again, then `report`."""
    run = _run(folder)
    if random.random() < 0.5:
        run.results_file.unlink(missing_ok=True)
    told = [_damage(random, run.folder, cache) for _ in range(random.choice((1, 2)))]
    trained = type_command(folder, "train", *SETTINGS)
    reported = type_command(folder, "report", "outputs/torture")
    for done in (trained, reported):
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if "Traceback" in done.stderr:
            return Outcome("traceback", "; ".join(told), done.stderr.strip().splitlines()[-1][:200])
        if done.returncode and len(lines) != 1:
            return Outcome("wrong exit status", "; ".join(told), f"{done.returncode}: {done.stderr[-200:]}")
    return Outcome("one line" if trained.returncode else "worked", "; ".join(told), trained.stderr.strip()[-200:])


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
