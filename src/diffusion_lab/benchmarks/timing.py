"""Rates of things that take turns, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Work = Callable[[], int]  # does a little work and returns how many images, or other units, that was


@dataclass(frozen=True)
class Figure:
    """One line of the table: `value` of `what` in `unit`, and its ratio to `against` where there is one.

    Attributes:
        aim: what the ratio, or without one the value, ought to be, in words: "≥ 0.97".
    """

    what: str
    value: float | None
    unit: str
    against: str = ""
    against_value: float | None = None
    ratio: float | None = None
    aim: str = ""


def rate(work: Work, seconds: float) -> float:
    """Units a second over at least `seconds`."""
    start, done = now(), work()
    while now(wait=False) - start < seconds:
        done += work()
    return done / (now() - start)


def in_turns(cases: dict[str, Work], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The rate of each case in each round; before that, each runs once, unmeasured."""
    for work in cases.values():
        work()
    rates = {name: [] for name in cases}
    for _ in range(rounds):
        for name, work in cases.items():
            rates[name].append(rate(work, seconds))
    return rates


def compare(what: str, unit: str, rates: dict[str, list[float]], ours: str, other: str, aim: str = "") -> Figure:
    """Medians of both, and the median over rounds of their ratio."""
    ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[other], strict=True))
    return Figure(what, statistics.median(rates[ours]), unit, other, statistics.median(rates[other]), ratio, aim)


def now(wait: bool = True) -> float:
    """Seconds; with `wait`, after all work given to a GPU is done."""
    if wait and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
