"""One job: done once in a folder of its own, and alone there; its mistake is one line."""

import contextlib
import logging
import math
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout
from omegaconf import DictConfig

from diffusion_lab import ranks
from diffusion_lab.commands.checks import plain
from diffusion_lab.commands.console import exit_on_user_error
from diffusion_lab.commands.data import forget_sources
from diffusion_lab.errors import Diverged, StoppedEarly, UserError, failure_of_own_code, user_error_in
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import declared

log = logging.getLogger(__name__)


def attempt(
    work: Callable[[DictConfig, Run], dict],
    resolved: Callable[[DictConfig], dict],
    cfg: DictConfig,
    run: Run,
    is_multirun: bool,
) -> dict | None:
    """Return `work(cfg, run)`, the job's results. A user's mistake ends the program in one line.

    In a multirun the figure of `cfg.objective` is logged, and no failure ends it: the failure is written to results.json
    and None is returned, so that the other jobs go on.

    Args:
        resolved: the config that `work` gives to a run of `cfg`; it may raise, as `work` does.
    """
    forget_sources()
    run.remove_if_empty(above=0)  # which Hydra has made: a kill before the run begins leaves none
    if not is_multirun:
        try:
            return exit_on_user_error(work, cfg, run)
        finally:
            if ranks.is_first():
                run.remove_if_empty()
    try:
        results = work(cfg, run)
        log.info("%s: %s %.4g", run.folder.name, cfg.objective, results.get(cfg.objective, math.nan))
        return results
    except StoppedEarly as stop:
        log.info("%s: %s", run.folder.name, stop)
        return None
    except Exception as error:
        mistake = user_error_in(error) or failure_of_own_code(error)
        if mistake is None:
            traceback.print_exc()
        reason = str(mistake or f"{type(error).__name__}: {error}")
        log.error("error: %s", reason)
        if not ranks.is_first():
            return None
        config = _config_of(cfg, resolved)
        with contextlib.suppress(UserError):  # that the folder holds somebody else's files, as was said
            if config_hash(run.config()) != config_hash(config):  # else what it has said of itself stays
                run.begin(config)  # sets aside a finished run of another configuration, which a failure must not overwrite
            run.fail(reason, config)
        return None


def _config_of(cfg: DictConfig, resolved: Callable[[DictConfig], dict]) -> dict:
    """`resolved(cfg)`, or where that is what fails, what can be had of it."""
    try:
        return resolved(cfg)
    except Exception:
        return plain(cfg)


def to_minimise(results: dict | None, objective: str, is_multirun: bool) -> float:
    """What Hydra's sweepers minimise: the objective's figure, or less it where more is better; infinity for a failure."""
    if not results:
        return math.inf
    figure = declared(results).get(objective)
    if figure is None:
        missing = f"objective={objective} was not measured; this run has {', '.join(declared(results))}"
        if not is_multirun:
            raise UserError(missing)
        log.error("error: %s", missing)
        return math.inf
    return results[objective] if figure.less_is_better else -results[objective]


@dataclass
class Work:
    """What a process does while it is alone in a run's folder.

    Attributes:
        results: of the finished run that is there; None where there is something to do.
    """

    run: Run
    config: dict
    results: dict | None

    def finish(self, results: dict) -> dict:
        """Write results.json with status "finished"; returns the results."""
        results = {**results, "config_hash": config_hash(self.config)}
        if ranks.is_first():
            self.run.finish(results)
        return results


@contextlib.contextmanager
def _noting_its_end(run: Run, config: dict) -> Iterator[None]:
    """Write to results.json why a run that had begun has no results, so that no report takes it for an unfinished one."""
    try:
        yield
    except (Diverged, StoppedEarly) as end:
        if config_hash(run.config()) == config_hash(config):
            note = run.fail if isinstance(end, Diverged) else run.stop_early
            note(str(end), config)
        raise


@contextlib.contextmanager
def alone(run: Run, config: dict) -> Iterator[Work]:
    """Be the only process that works in `run`'s folder; what `config` gave there already is not run again. Of several that
    share a training, the first one is; the others are told what it found, and leave when it is done."""
    ranks.join()
    if not ranks.is_first():
        yield Work(run, config, ranks.from_first())
        ranks.wait()
        return
    run.check_place()
    lock = run.lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being worked on by another process: waiting for it", run.folder.name)
        lock.acquire()
    try:
        found = run.of(config)
        finished = found.finished_as(config)
        if finished and found is not run:
            run.begin(found.config())
        if finished:
            log.info("%s is finished: its results are shown, nothing is run again", run.folder.name)
        results = run.results() if finished else None
        ranks.from_first(results)
        with _noting_its_end(run, config):
            yield Work(run, config, results)
        ranks.wait()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
