"""Distillation in stages: each is a run, and learns from the one before, which lies beside it."""

from omegaconf import DictConfig

from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import NOT_PART_OF_THE_EXPERIMENT
from diffusion_lab.experiments.runs import Run

OF_THE_STAGE = {  # where two stages of one distillation differ
    *("sampler.steps", "times.steps", "teacher.steps", "teacher.checkpoint", "teacher.scale", "init_from"),
    *("contents", "choices"),
}
REPEATED = ("task", "criterion")  # parts that hold those again


def is_stage(config: dict) -> bool:
    """Whether a config is that of a stage."""
    return str(config["teacher"]["_target_"]).endswith(".two_steps")


def with_teacher(cfg: DictConfig, run: Run, first: dict) -> None:
    """Make the run of twice as many steps, which is otherwise the same and lies beside `run`, the teacher of `cfg`. Where
    there is none, this is the first stage, and `cfg` keeps its own teacher.

    Args:
        first: what the contents of all stages have in common.

    Raises:
        UserError: that run is there, and not finished.
    """
    config = plain(cfg)
    for file in sorted(run.folder.parent.glob("*/config.yaml")):
        other = Run(file.parent)
        theirs = other.config()
        if not _is_before(theirs, config, first):
            continue
        if not other.finished():
            steps = theirs["sampler"]["steps"]
            raise UserError(f"the stage of {steps} steps before, {other.folder}, is not finished: run it first")
        cfg.teacher.checkpoint = str(other.last_checkpoint.resolve())
        cfg.teacher.scale = 1.0  # it has learned the guidance
        return


def _is_before(theirs: dict, config: dict, first: dict) -> bool:
    sampler, contents = (theirs[key] if isinstance(theirs.get(key), dict) else {} for key in ("sampler", "contents"))
    twice = sampler.get("steps") == 2 * config["sampler"]["steps"]
    return twice and first.items() <= contents.items() and _shared(theirs) == _shared(config)


def _shared(node, place: str = ""):
    """What two stages of one distillation have in common."""
    if isinstance(node, dict):
        inner = {key: f"{place}.{key}".removeprefix(".") for key in node}
        kept = {key: at for key, at in inner.items() if at not in (*OF_THE_STAGE, *NOT_PART_OF_THE_EXPERIMENT, *REPEATED)}
        return {key: _shared(node[key], at) for key, at in kept.items()}
    return [_shared(child, place) for child in node] if isinstance(node, list) else node
