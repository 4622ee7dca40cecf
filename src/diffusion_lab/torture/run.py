"""`torture.py`: show the program what goes wrong in the world, for some minutes, and count what falls short."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from diffusion_lab.torture import checkpoints, command_lines, faults, folders, kills, sweep_files
from diffusion_lab.torture.trial import Outcome

INPUTS = {
    "command lines": command_lines.try_one,
    "folders of images": folders.try_one,
    "sweep files": sweep_files.try_one,
    "checkpoints": checkpoints.try_one,
}
SHARES = dict(zip((*INPUTS, "kills", "damaged files"), (0.25, 0.05, 0.05, 0.15, 0.35, 0.15), strict=True))  # of the time


def torture(minutes: float, seed: int = 0) -> bool:
    """Try for so many minutes, print a table; returns whether nothing fell short."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    table, sound = Table("what", "tried", "worked", "one line", "fell short", header_style="bold"), True
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        os.environ["DIFFUSION_LAB_CACHE"] = str(Path(scratch, "cache"))
        for what, outcomes in _all(Random(seed), Path(scratch)):
            counted, short = Counter(), 0
            until = time.monotonic() + 60 * minutes * SHARES[what]
            while time.monotonic() < until:
                outcome, count = outcomes()
                counted[outcome.name] += count
                if outcome.is_shortfall:
                    short += 1
                    print(f"{what}: {outcome.name}: {outcome.given}: {outcome.told}", flush=True)
            tried = sum(counted.values())
            table.add_row(what, *map(str, (tried, counted["worked"], counted["one line"], short)))
            print(f"{what}: {tried} tried, {short} fell short", flush=True)
            sound = sound and not short
    Console().print(table)
    return sound


def _all(random: Random, scratch: Path) -> Iterator[tuple[str, Callable[[], tuple[Outcome, int]]]]:
    """(what, a function that tries one: its outcome, and how many tries that was)"""
    for what, try_one in INPUTS.items():
        yield what, lambda try_one=try_one: (try_one(random), 1)
    whole, seconds = kills.unbroken(_new(scratch, "whole"))

    def killed() -> tuple[Outcome, int]:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            count, outcome = kills.try_one(random, Path(folder), whole, seconds)
        return outcome, max(1, count)

    yield "kills", killed
    cache, damaged = Path(os.environ["DIFFUSION_LAB_CACHE"]), _new(scratch, "damaged")
    run = next(run for name, run in whole.items() if "loss" not in name)
    yield "damaged files", lambda: (faults.try_one(random, damaged, cache, run), 1)


def _new(scratch: Path, name: str) -> Path:
    (scratch / name).mkdir()
    return scratch / name
