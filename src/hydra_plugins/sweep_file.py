"""Hydra sweeper for W&B sweep files: `train.py -m hydra/sweeper=sweep_file hydra.sweeper.file=FILE [overrides]`.

Hydra looks for plugins in the namespace package `hydra_plugins` and imports what it finds at every start, so heavy
libraries are imported only when a sweep runs.
"""

import logging
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

log = logging.getLogger("diffusion_lab.sweep")


class SweepFile(Sweeper):
    """Runs the jobs of a sweep file through Hydra's launchers.

    Args:
        file: a W&B sweep file; overrides typed beside it replace its parameters.
        dry_run: list the jobs, and which of them are done, instead of running them.
    """

    def __init__(self, file: str, dry_run: bool):
        self.file, self.dry_run = file, dry_run

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from diffusion_lab.commands.console import exit_on_user_error

        exit_on_user_error(self._sweep, arguments)

    def _sweep(self, arguments: list[str]) -> None:
        from diffusion_lab.commands.plan import announce
        from diffusion_lab.experiments import sweeps

        sweep = sweeps.with_overrides(sweeps.load(self.file), arguments)
        self._name_runs_by_what_varies(sweep)
        at_once = self._at_once()
        planned = [self._job(job) for job in sweeps.known_jobs(sweep, lambda job: self._job(job).figure)]
        announce(planned, sweeps.job_count(sweep), at_once, self.dry_run)
        if self.dry_run:
            return
        sweeps.save(sweep, self.config.hydra.sweep.dir)
        if sweep["method"] != "bayes":
            self._launch([job.overrides for job in planned], 0)
            return
        done = []
        while batch := sweeps.next_jobs(sweep, done, at_once):
            self._launch(batch, len(done))
            done += [(job, self._job(job).figure) for job in batch]

    def _launch(self, jobs: list[dict], first: int) -> None:
        from diffusion_lab.experiments.sweeps import as_overrides

        batch = [as_overrides(job) for job in jobs]
        self.validate_batch_is_legal(batch)
        self.launcher.launch(batch, initial_job_idx=first)

    def _job(self, job: dict):
        """The job in the folder, and with the config, that the launcher will give to it."""
        from diffusion_lab.commands.plan import job_of
        from diffusion_lab.experiments.runs import Run
        from diffusion_lab.experiments.sweeps import as_overrides

        config = self.hydra_context.config_loader.load_sweep_config(self.config, as_overrides(job))
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)
        with read_write(config), open_dict(config):
            del config["hydra"]
        return job_of(job, Run(folder), config)

    def _name_runs_by_what_varies(self, sweep: dict) -> None:
        """Leave what is the same in all jobs out of their folders' names."""
        fixed = [key for key, parameter in sweep["parameters"].items() if "value" in parameter]
        excluded = [*self.config.hydra.job.config.override_dirname.exclude_keys, *fixed, "objective"]
        override = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(excluded)}]"
        with read_write(self.config), open_dict(self.config):
            self.config.hydra.overrides.hydra.append(override)

    def _at_once(self) -> int:
        jobs = self.config.hydra.launcher.get("n_jobs", 1)
        return jobs if jobs > 0 else os.cpu_count()
