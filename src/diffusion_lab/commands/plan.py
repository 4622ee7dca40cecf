"""What a sweep is about to do: its jobs, which of them are done, and how long the rest may take."""

from dataclasses import dataclass

from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from diffusion_lab.commands.evaluate import evaluation_config
from diffusion_lab.commands.train import training_config
from diffusion_lab.errors import UserError, user_error_in
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.render import wide_console
from diffusion_lab.wording import duration, one_line


@dataclass(frozen=True)
class Job:
    """A job: its overrides, its folder, its state, and the figure of the objective where it is finished.

    The state is "finished", "stopped early", "failed before", "2 of 18 epochs", "2 epochs", "to run", or "cannot run: why".
    """

    overrides: dict
    run: Run
    state: str
    epochs: int | None
    figure: float | None


def job_of(overrides: dict, run: Run, cfg: DictConfig) -> Job:
    """Look up the state of the job that `overrides` compose to. Call it while Hydra's runtime config is that of `cfg`."""
    try:
        config = evaluation_config(cfg)[0] if "checkpoint" in cfg else training_config(cfg, run)
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            raise
        return Job(overrides, run, f"cannot run: {mistake}", None, None)
    run = run.of(config)
    state = _state(run, config)
    return Job(overrides, run, state, config["epochs"], run.results().get(cfg.objective) if state == "finished" else None)


def _state(run: Run, config: dict) -> str:
    if run.finished_as(config):
        return "finished"
    old = run.config()
    if not old or config_hash(old) != config_hash(config):
        return "to run"
    status = run.results().get("status")
    if status == "stopped early":
        return status
    if status:
        return "failed before"
    return f"{run.epochs_done()} of {config['epochs']} epochs" if config["epochs"] else f"{run.epochs_done()} epochs"


def announce(jobs: list[Job], count: int, at_once: int, with_list: bool) -> None:
    """Say how many of a sweep's `count` jobs are done and how long the rest may take; with a list, each job's state.

    Raises:
        UserError: none of the jobs can run.
    """
    console = wide_console()
    if with_list:
        console.print(_table(jobs))
        if count > len(jobs):
            console.print(f"{count - len(jobs)} more follow from the figures of those before them")
    if all(job.state.startswith("cannot run") for job in jobs):
        raise UserError(jobs[0].state)
    finished = [job for job in jobs if job.state in ("finished", "stopped early")]
    stopped = sum(job.state == "stopped early" for job in jobs)
    begun = sum(job.state.endswith("epochs") for job in jobs)
    done = f"{len(finished) - stopped} finished" + (f", {stopped} stopped early" if stopped else "")
    said = f"{count} jobs: {done}, {begun} begun, {count - len(finished) - begun} to run"
    console.print(f"{said}; {_time_left(jobs, finished, count, at_once)}", highlight=False)


def _time_left(jobs: list[Job], finished: list[Job], count: int, at_once: int) -> str:
    if len(finished) == count:
        return "nothing is left to do"
    times = [_seconds(job.run.results()) for job in finished]
    if not sum(times):
        return "how long they take is not known before one is finished"
    mean = sum(times) / len(times)
    left = sum(_left(job) for job in jobs) + count - len(jobs)
    together = f", {at_once} at once" if at_once > 1 else ""
    return f"about {duration(left * mean / at_once)} left ({duration(mean)} a job{together})"


def _left(job: Job) -> float:
    """The share of a job that is yet to be run."""
    if job.state in ("finished", "stopped early"):
        return 0.0
    return 1 - job.run.epochs_done() / job.epochs if job.state.endswith("epochs") and job.epochs else 1.0


def _seconds(results: dict) -> float:
    return results.get("fit_seconds", results.get("train_seconds", 0.0)) + results.get("score_seconds", 0.0)


def _table(jobs: list[Job]) -> Table:
    varied = [key for key in jobs[0].overrides if len({str(job.overrides[key]) for job in jobs}) > 1]
    table = Table(header_style="bold")
    for column in ("job", *varied, "state"):
        table.add_column(escape(column))
    for number, job in enumerate(jobs):
        table.add_row(str(number), *(escape(one_line(job.overrides[key])) for key in varied), escape(one_line(job.state)))
    return table
