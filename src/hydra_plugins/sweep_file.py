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
        from diffusion_lab.commands.composition import check_choices
        from diffusion_lab.commands.plan import announce
        from diffusion_lab.experiments import sweeps
        from diffusion_lab.experiments.shared_search import SharedSearch, done_before

        sweep = sweeps.with_overrides(sweeps.load(self.file), arguments)
        check_choices(sweeps.listed_overrides(sweep))
        self._name_runs_by_what_varies(sweep)
        at_once = self._at_once()
        folder = Path(self.config.hydra.sweep.dir)
        done = done_before(sweep, folder)
        planned = [self._job(job) for job in sweeps.known_jobs(sweep, lambda job: self._job(job).figure, done)]
        announce(planned, sweeps.job_count(sweep), at_once, self.dry_run)
        if self.dry_run:
            return
        sweeps.save(sweep, folder)
        if sweep["method"] == "grid" and "early_terminate" not in sweep:
            self._launch([sweeps.as_overrides(job.overrides) for job in planned], 0)
        else:
            self._search(SharedSearch(sweep, folder), at_once)

    def _search(self, search, at_once: int) -> None:
        """Work on the search's trials until none is left for this process."""
        from diffusion_lab.experiments.sweeps import as_overrides

        trial = search.trial_override if "early_terminate" in search.sweep else None
        while claims := search.claim(at_once):
            batch = [as_overrides(claim.job) + ([trial(claim)] if trial else []) for claim in claims]
            self._launch(batch, claims[0].number)
            for claim in claims:
                job = self._job(claim.job)
                search.settle(claim, job.figure, job.run.results().get("status"))

    def _launch(self, batch: list[list[str]], first: int) -> None:
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
        excluded = [*self.config.hydra.job.config.override_dirname.exclude_keys, *fixed, "objective", "trial"]
        override = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(excluded)}]"
        with read_write(self.config), open_dict(self.config):
            self.config.hydra.overrides.hydra.append(override)

    def _at_once(self) -> int:
        launcher = self.config.hydra.launcher
        jobs = launcher.get("n_jobs", launcher.get("array_parallelism", 1))  # joblib's word, and submitit's
        return jobs if jobs > 0 else os.cpu_count()
