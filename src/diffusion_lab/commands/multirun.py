"""What a multirun says at its end: the report on its jobs, and an exit status that says if one failed."""

import contextlib
import copy
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from diffusion_lab.commands.console import command, print_all_letters
from diffusion_lab.commands.stopping import begin_multirun, call_at_end, follow_multirun
from diffusion_lab.experiments.runs import Run

JOB_LIST = "DIFFUSION_LAB_JOB_LIST"  # a file that jobs add their folders to, also from other processes


class MultirunReport(Callback):
    """Hydra callback: collects the jobs' folders, then reports on them.

    Args:
        files: report on all runs in the multirun's folder, and write the report there; else on these jobs, on the terminal.
    """

    def __init__(self, files: bool = False):
        self.files = files

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        HydraConfig.instance().set_config(copy.deepcopy(config))  # the jobs' folders refer to it, before there is a job
        submitted = "submitit" in config.hydra.launcher._target_  # jobs of other machines, which share the folder alone
        folder = Path(config.hydra.sweep.dir).resolve() if submitted else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=".jobs-" if submitted else "diffusion-lab-jobs-", dir=folder)
        os.close(handle)
        os.environ[JOB_LIST] = path
        call_at_end(partial(_tidy, Path(path)))
        if not submitted:
            begin_multirun()

    def on_job_start(self, config: DictConfig, **kwargs) -> None:
        follow_multirun()
        print_all_letters()
        if os.path.isfile(os.environ.get(JOB_LIST, "")):  # the multirun waits for it yet
            with open(os.environ[JOB_LIST], "a") as jobs:
                jobs.write(f"{config.hydra.runtime.output_dir}\n")

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        runs = _runs_in(Path(os.environ.pop(JOB_LIST)))
        if not runs:  # a dry run
            return
        folder = Path(config.hydra.sweep.dir)
        objective = config.get("objective") or runs[0].config().get("objective", "kid")  # as its checkpoint has it
        if self.files:
            from diffusion_lab.commands.report import write
            from diffusion_lab.reports.collect import find_runs

            here = find_runs(folder.resolve())
            write(list(dict.fromkeys([*here, *runs])), folder, objective)  # with out=a,b the jobs are elsewhere
        else:
            from diffusion_lab.reports.render import print_report
            from diffusion_lab.reports.report import report

            print_report(report(runs, objective, title=folder.name, with_pictures=False))
            print("\nwith pictures, as files: " + command("report", str(folder)))
        if not all(run.is_settled() for run in runs):
            sys.exit(1)


def _runs_in(job_list: Path) -> list[Run]:
    return [Run(Path(folder)) for folder in dict.fromkeys(job_list.read_text().splitlines())]


def _tidy(job_list: Path) -> None:
    """Remove the list, and the locks of jobs whose processes were killed."""
    for run in _runs_in(job_list):
        lock = run.lock()
        with contextlib.suppress(Timeout):
            if Path(lock.lock_file).exists():
                lock.acquire(timeout=0.2)
                Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()
    job_list.unlink()
