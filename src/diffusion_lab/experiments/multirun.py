"""What a grid prints at its end: one table of its jobs, best first, and an exit status that says if one failed."""

import json
import math
import os
import sys
import tempfile
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffusion_lab.experiments.runs import Run

JOB_LIST = "DIFFUSION_LAB_JOB_LIST"  # a file that jobs add their folders to, also from other processes


class MultirunTable(Callback):
    """Hydra callback: collects the jobs' folders, then prints their results."""

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        handle, path = tempfile.mkstemp(prefix="diffusion-lab-jobs-")
        os.close(handle)
        os.environ[JOB_LIST] = path

    def on_job_start(self, config: DictConfig, **kwargs) -> None:
        if JOB_LIST in os.environ:
            job = {"folder": config.hydra.runtime.output_dir, "overrides": list(config.hydra.overrides.task)}
            with open(os.environ[JOB_LIST], "a") as jobs:
                jobs.write(json.dumps(job) + "\n")

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        job_list = Path(os.environ.pop(JOB_LIST))
        jobs = [json.loads(line) for line in job_list.read_text().splitlines()]
        job_list.unlink()
        runs = {Run(Path(job["folder"])): dict(pair.split("=", 1) for pair in job["overrides"]) for job in jobs}
        print_table(runs, config.get("objective", "kid"))
        if not all(run.finished() for run in runs):
            sys.exit(1)


def print_table(runs: dict[Run, dict[str, str]], objective: str, console: Console | None = None) -> None:
    """Print runs, the smallest `objective` first, with the overrides in which they differ; failed ones with their reason."""
    console = console or Console()
    ranked = sorted(runs, key=lambda run: (not run.finished(), run.results().get(objective, math.inf)))
    varied = [key for key in dict.fromkeys(key for overrides in runs.values() for key in overrides) if _varies(key, runs)]
    finished = [run.results() for run in ranked if run.finished()]
    table = Table(title=f"{len(runs)} runs, {len(finished)} finished; best {objective} first", title_justify="left")
    for column in varied:
        table.add_column(column)
    for column in ("kid", "± std", "fid", "noise\nloss", "image\nloss", "train\ns"):
        table.add_column(column, justify="right")
    for run in ranked:
        row = [escape(runs[run].get(key, "")) for key in varied]
        table.add_row(*row, *(_figures(run.results()) if run.finished() else ["failed" if run.results() else "unfinished"]))
    console.print(table)
    for extractor in sorted({f"{r['feature_extractor']} at {r['extractor_resolution']} px" for r in finished}):
        console.print(f"features of {extractor}; each run is one seed: near neighbours are not ranked by it")
    for run in ranked:
        if not run.finished():
            console.print(
                f"[red]{escape(run.folder.name)}: {escape(run.results().get('error', 'unfinished'))}", soft_wrap=True
            )


def _varies(key: str, runs: dict[Run, dict[str, str]]) -> bool:
    return len({overrides.get(key) for overrides in runs.values()}) > 1


def _figures(results: dict) -> list[str]:
    figures = [f"{results[key]:.4f}" for key in ("kid", "kid_std")] + [f"{results['fid']:.1f}"]
    return [*figures, *(f"{results[key]:.4f}" for key in ("noise_loss", "image_loss")), f"{results['train_seconds']:.0f}"]
