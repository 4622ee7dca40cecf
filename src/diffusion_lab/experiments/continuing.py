"""Going on with a training: which settings have to stay, and which finished run a longer one could go on from. Needs no
torch."""

import re
from collections.abc import Iterator
from pathlib import Path

from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import one_number, without_later_defaults
from diffusion_lab.experiments.runs import Run

BUDGET = ("epochs", "steps", "minutes")
SHAPING = (  # what a training's steps, and the state that it goes on with, depend on
    *("model", "task", "optimizer", "ema", "snapshots", "seed", "batch_size", "accumulate", "lr_scaling", "contents.data"),
    *(f"data.{key}" for key in ("image_size", "channels", "antialias", "max_images", "repeat", "flip", "shift")),
)
FOUND = "model.conditions.names"  # in the data
NAMED = 3  # settings in a message


def checkpoint_of(path: str | Path) -> Path:
    """The checkpoint file that `resume_from` means: a file itself, or the last one of a run's folder.

    Raises:
        UserError: there is none.
    """
    path = Path(path).expanduser()
    file = Run(path).last_checkpoint if path.is_dir() else path
    if not file.is_file():
        looked = f" (looked for {file.relative_to(path)})" if path.is_dir() else ""
        raise UserError(f"resume_from={path} is neither a checkpoint nor a run's folder with one{looked}")
    return file


def run_of(checkpoint: Path) -> Run:
    """The run in whose folder a checkpoint lies."""
    return Run(checkpoint.parent.parent)


def differences(there: dict, here: dict) -> list[str]:
    """The settings in which two configs are no one training, such as "optimizer.lr=0.002 there, 0.001 here"."""
    old, new = (dict(_shaping(config)) for config in (there, here))
    keys = [key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key)]
    return [f"{key}={old.get(key)} there, {new.get(key)} here" for key in keys]


def check_same_training(there: dict, here: dict, file: Path) -> None:
    """Raise UserError where the config of a checkpoint is not that of this training but for its budget, its schedule of the
    learning rate, and how it is watched, scored and drawn."""
    found = differences(there, here)
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise UserError(
            f"resume_from={file} is of another training: {'; '.join(found[:NAMED])}{more}. Type the settings that it was "
            "trained with, or init_from=FILE, which takes its weights and begins at step 0"
        )


def shorter_one(run: Run, config: dict) -> Run | None:
    """The finished run of the same training with a smaller budget that went furthest, in `run`'s place or beside it under
    the same name but for the budget; None where there is none, or where the run of `config` has begun."""
    if config["resume_from"] or run.has_begun(config):
        return None
    found = [other for other in _namesakes(run) if other.finished() and other.last_checkpoint.is_file()]
    found = [other for other in found if _is_shorter(other, config) and not differences(other.config(), config)]
    return max(found, key=lambda other: other.results()["steps"], default=None)


def _namesakes(run: Run) -> Iterator[Run]:
    if run.folder.parent.is_dir():
        for folder in sorted(run.folder.parent.iterdir()):
            if folder.is_dir() and _less_budget(folder.name) == _less_budget(run.folder.name):
                yield Run(folder)


def _less_budget(name: str) -> str:
    words = rf"(^|_)({'|'.join(BUDGET)})-[^_]+"
    name = name.partition("~")[0]
    if re.search(r"-[0-9a-f]{12}$", name):  # cut, and a hash
        return "long"
    return re.sub(words, "", name).strip("_") or "default"


def _is_shorter(other: Run, config: dict) -> bool:
    results = other.results()
    counted = [(results.get(key, 0), config[key]) for key in ("epochs", "steps") if config.get(key)]
    return all(done < asked for done, asked in counted)


def _shaping(config: dict) -> Iterator[tuple[str, object]]:
    config = one_number(without_later_defaults(config))
    for place in SHAPING:
        node = config
        for key in place.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        yield from _leaves(node, place)


def _leaves(node: object, place: str) -> Iterator[tuple[str, object]]:
    if place == FOUND:
        return
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, f"{place}.{key}")
    else:
        yield place, node
