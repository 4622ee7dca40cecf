"""One job: done once in a folder of its own, and alone there; its mistake is one line."""

import logging
import traceback
from collections.abc import Callable

from filelock import Timeout
from omegaconf import DictConfig

from diffusion_lab.commands.checks import plain
from diffusion_lab.commands.console import exit_on_user_error
from diffusion_lab.errors import user_error_in
from diffusion_lab.experiments.runs import Run, config_hash

log = logging.getLogger(__name__)


def attempt(work: Callable[[DictConfig, Run], dict], cfg: DictConfig, run: Run, is_multirun: bool) -> dict | None:
    """Return `work(cfg, run)`, the job's results. A user's mistake ends the program in one line.

    In a multirun the figure of `cfg.objective` is logged, and no failure ends it: the failure is written to results.json
    and None is returned, so that the other jobs go on.
    """
    if not is_multirun:
        try:
            return exit_on_user_error(work, cfg, run)
        finally:
            run.remove_if_empty()
    try:
        results = work(cfg, run)
        log.info("%s: %s %.4g", run.folder.name, cfg.objective, results[cfg.objective])
        return results
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            traceback.print_exc()
        reason = str(mistake or f"{type(error).__name__}: {error}")
        log.error("error: %s", reason)
        config = plain(cfg)
        run.begin(config)  # sets aside a finished run of another configuration, which a failure must not overwrite
        run.fail(reason, config)
        return None


def once(config: dict, run: Run, work: Callable[[], dict]) -> dict:
    """The results of `config` in `run`'s folder: those that are there, else what `work()` returns, written down.

    `work` calls `run.begin(config)` once nothing that the user could mend is left to go wrong.
    """
    lock = run.lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being worked on by another process: waiting for it", run.folder.name)
        lock.acquire()
    try:
        if run.finished_as(config):
            log.info("%s is finished: its results are shown, nothing is run again", run.folder.name)
            return run.results()
        results = {**work(), "config_hash": config_hash(config)}
        run.finish(results)
        return results
    finally:
        lock.release()
