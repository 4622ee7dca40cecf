"""What a training goes on from: its own last checkpoint, or that of a shorter training."""

import logging
import shutil
from pathlib import Path

from diffusion_lab import ranks
from diffusion_lab.checkpoints import Checkpoint, load_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.continuing import check_same_training, differences, run_of
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import replacing
from diffusion_lab.training.kept import is_sound
from diffusion_lab.training.module import Training
from diffusion_lab.training.saving import best_score

log = logging.getLogger(__name__)


def start_of(run: Run, config: dict, shorter: Checkpoint | None) -> Checkpoint | None:
    """What the training goes on from, in all processes what the first one finds; None for a new one."""
    found = (resumed_from(run, config) or with_history(shorter, run, config)) if ranks.is_first() else None
    path = ranks.from_first(found and found.path)
    if ranks.is_first() or path is None:
        return found
    return shorter if shorter and shorter.path == path else load_checkpoint(path, trusted=None)


def resumed_from(run: Run, config: dict) -> Checkpoint | None:
    """The checkpoint that an interrupted run goes on from: the last one, or, where that is damaged, an earlier one; None
    where there is none.

    Raises:
        UserError: what is there is of another config.
    """

    def is_same(checkpoint: Checkpoint) -> bool:
        return config_hash(checkpoint.config) == config_hash(config)

    for file in run.resumable:
        try:
            checkpoint = load_checkpoint(file, trusted=None)
        except UserError as error:
            log.warning("passed over: %s", error)
            continue
        if file.name == "best.ckpt" and not _can_go_on(checkpoint):  # unless an older version wrote it
            continue
        if file.name == "best.ckpt" and config["resume_from"] and not is_same(checkpoint):  # of the shorter training
            continue
        if not is_same(checkpoint):
            raise UserError(f"{file} is of another config than this run's: move {run.folder} away")
        log.info("going on from the checkpoint after step %d (%s)", checkpoint.state["global_step"], file.name)
        if file != run.last_checkpoint:
            with replacing(run.last_checkpoint) as scratch:
                shutil.copyfile(file, scratch)
        return checkpoint
    if run.resumable:
        log.warning("no checkpoint of %s can be read: training begins anew", run.folder.name)
    return None


def _can_go_on(checkpoint: Checkpoint) -> bool:
    """Whether there is more than weights in it: in a run's last.ckpt, not in its best.ckpt."""
    return {"loops", "optimizer_states"} <= checkpoint.state.keys()


def shorter_training(config: dict) -> Checkpoint | None:
    """The checkpoint of another run that `resume_from` names; None where it names none.

    Raises:
        UserError: it is of another training, or of one that has gone further than this one is to go.
    """
    if not config["resume_from"]:
        return None
    checkpoint = load_checkpoint(config["resume_from"], config["trusted"])
    if not _can_go_on(checkpoint):
        raise UserError(f"resume_from={checkpoint.path} holds weights alone, which init_from takes: give a run's last.ckpt")
    check_same_training(checkpoint.config, config, checkpoint.path)
    try:
        behind = _behind(checkpoint)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(checkpoint) from error
    for key, done in behind.items():
        if config.get(key) and config[key] <= done:
            raise UserError(f"resume_from={checkpoint.path} has {done} {key} behind it: take more than {key}={config[key]}")
    return checkpoint


def check_sound(shorter: Checkpoint, module: Training) -> None:
    """Raise UserError where what `shorter` keeps of its training is not what `module` could go on with."""
    if not is_sound(shorter.state, module):
        raise _damaged(shorter)


def _damaged(shorter: Checkpoint) -> UserError:
    said = "holds no training that can go on: it is damaged. Take another, or init_from=FILE, which takes its weights alone"
    return UserError(f"resume_from={shorter.path} {said}")


def _behind(checkpoint: Checkpoint) -> dict[str, int | float]:
    """What a training had behind it, in each unit of a budget.

    Raises:
        AttributeError, KeyError, TypeError or ValueError: its file does not hold what a training needs.
    """
    state = checkpoint.state
    minutes = state["callbacks"]["Timer"]["time_elapsed"]["train"] / 60
    behind = {
        "epochs": state["epoch"] + ends_an_epoch(checkpoint),
        "steps": state["global_step"],
        "minutes": round(minutes, 1),
    }
    if not (all(done >= 0 for done in behind.values()) and state["optimizer_states"]):
        raise ValueError("damaged")
    return behind


def with_history(shorter: Checkpoint | None, run: Run, config: dict) -> Checkpoint | None:
    """The same checkpoint, when the curves of its run and the best checkpoint so far are in `run`'s folder."""
    if shorter is None:
        return None
    rows = run_of(shorter.path).sound_curves()
    if rows:
        run.write_curves(rows, sorted({"step"}.union(*rows)))
    best = best_until(shorter, config)
    if best:
        run.checkpoints.mkdir(exist_ok=True)
        with replacing(run.checkpoints / best.name) as scratch:
            shutil.copyfile(best, scratch)
    done = f"epoch {shorter.state['epoch'] + 1}, step {shorter.state['global_step']}"
    log.info("going on after %s, of %s", done, shorter.path)
    return shorter


def best_until(shorter: Checkpoint, config: dict) -> Path | None:
    """The best checkpoint that a shorter training had when it wrote this one; None where it is no longer beside it, or was
    chosen by another curve."""
    file = run_of(shorter.path).checkpoints / "best.ckpt"
    score = best_score(shorter.state, config["monitor"])
    if score is None or not file.is_file():
        return None
    try:
        best = load_checkpoint(file, shorter.trusted)
        is_it = best_score(best.state, config["monitor"]) == score and not differences(best.config, config)
    except UserError as error:
        log.warning("passed over: %s", error)
        return None
    return file if is_it else None


def ends_an_epoch(checkpoint: Checkpoint) -> bool:
    """Whether the epoch that it was written in was over then."""
    return bool(checkpoint.state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"])
