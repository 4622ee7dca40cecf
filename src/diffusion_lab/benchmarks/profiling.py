"""Where a step's time goes, by operator."""

import os
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from diffusion_lab.benchmarks.subject import experiment, title
from diffusion_lab.benchmarks.timing import Figure
from diffusion_lab.benchmarks.training import bare_loop


def operators(folder: Path, rounds: int, seconds: float, overrides: list[str], rows: int) -> list[Figure]:
    """The `rows` operators that take most of a training step, without the operators within them."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it complains of the GPU that is not there
    config = experiment(*overrides)
    work = bare_loop(config, folder)
    work()
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *gpu]) as profiler:
        for _ in range(rounds):
            work()
    times = {event.key: (_self_time(event) / rounds / 1000, event.count // rounds) for event in profiler.key_averages()}
    total = sum(milliseconds for milliseconds, _ in times.values())
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:rows]
    shares = [
        Figure(f"{name}, {calls} calls", milliseconds, "ms", "the step", total, milliseconds / total)
        for name, (milliseconds, calls) in longest
    ]
    return [Figure(f"one training step, {title(config)}", total, "ms"), *shares]


def _self_time(event) -> float:
    """Microseconds on the device that does the work, without the operators within."""
    return event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total
