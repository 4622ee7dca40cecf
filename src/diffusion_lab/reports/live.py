"""A comparison while it runs: the state of each job, its curves and its latest images, before what a report says."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from filelock import Timeout

from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.figures import curves_so_far, latest_samples
from diffusion_lab.reports.report import Report, Section, report


def live_report(runs: Iterable[Run], objective: str, title: str) -> Report:
    """What is known of `runs` now, finished or not."""
    runs = [run for run in runs if "~" not in run.folder.name]
    states = {run: state(run) for run in runs}
    sections = [Section("Jobs", [f"{summary(states.values())}."], _table(states))]
    pictures = {"Curves so far": curves_so_far(runs), "Latest samples": latest_samples(runs)}
    sections += [Section(name, picture=picture) for name, picture in pictures.items() if picture is not None]
    whole = report(runs, objective, title) if runs else Report(title, [], pd.DataFrame())
    return Report(title, [*sections, *whole.sections], whole.cells)


def state(run: Run) -> str:
    """ "running" where a process works on it now, else how its last one ended."""
    if _is_worked_on(run):
        return "running"
    return run.results().get("status") or "interrupted"


def summary(states: Iterable[str]) -> str:
    """How many are in which state."""
    counts = pd.Series(list(states), dtype=object).value_counts()
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{counts.sum()} runs: {said}" if said else "no runs yet"


def traces(folder: Path) -> dict[Path, int]:
    """The files below `folder` that tell of its runs, and when each was written."""
    found = {}
    for pattern in ("results.json", "config.yaml", "metrics.csv", "samples/*.png"):
        for file in folder.rglob(pattern):
            try:
                found[file] = file.stat().st_mtime_ns
            except FileNotFoundError:  # just removed
                continue
    return found


def _is_worked_on(run: Run) -> bool:
    """Whether its lock is there and held."""
    if not run.folder.is_dir():  # any more: to ask for its lock would make the one above it again
        return False
    lock = run.lock()
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock.acquire(timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _table(states: dict[Run, str]) -> pd.DataFrame:
    rows = []
    for run, now in states.items():
        curves = run.sound_curves()
        last = {key: value for row in curves for key, value in row.items() if key.startswith("val/") and "_std" not in key}
        epochs = f"{run.epochs_done()} of {run.config().get('epochs') or '?'}"
        steps = max((row["step"] + 1 for row in curves if not any(key.startswith("final/") for key in row)), default=0)
        shown = {key.removeprefix("val/"): f"{value:.4g}" for key, value in last.items()}
        rows.append({"run": run.folder.name, "state": now, "epochs": epochs, "steps": steps, **shown})
    return pd.DataFrame(rows).fillna("–")
