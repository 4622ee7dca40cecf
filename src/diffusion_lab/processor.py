"""How many cores this process may have, and how many of them others keep busy. Needs no torch."""

import os
import time
from pathlib import Path

SAMPLE_S = 0.2  # over which the load is measured, in which this process sleeps
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # a container's: "200000 100000" are two cores


def cores() -> int:
    """The cores that this process may run on, as many as its container pays for."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    except (OSError, ValueError):  # none, or "max"
        return allowed


def busy_cores() -> float:
    """How many of them others keep busy just now; by the load of the last minute where there is no psutil."""
    try:
        import psutil
    except ImportError:
        return max(0.0, os.getloadavg()[0] - 1) if hasattr(os, "getloadavg") else 0.0
    psutil.cpu_percent(percpu=True)
    time.sleep(SAMPLE_S)
    percents = psutil.cpu_percent(percpu=True)
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(percents))
    return sum(percent for core, percent in enumerate(percents) if core in mine) / 100
