"""What a run started from, told in a report without the seed: another seed of the same training is no other choice."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run

# Which key of `contents` names by its content the file that a key of the config says the place of.
STARTS = {
    "contents.resume_from": "resume_from",
    "contents.init_from": "init_from",
    "contents.teacher": "teacher.checkpoint",
    "contents.autoencoder": "space.autoencoder",
}
FOLLOW = ("contents.first_teacher", "space.sha256")  # the one before a teacher, and what is told by the autoencoder
DEEPEST = 8  # starts of starts that are looked at


class Origin(NamedTuple):
    """The training that a run started from.

    Attributes:
        name: of its folder, without the seed.
        training: digits that are the same for all its seeds; a file of no run has those of its content.
        seed: its own.
        content: digits of the file.
    """

    name: str
    training: str
    seed: object
    content: str


def with_origins(settings: dict[Run, dict], configs: dict[Run, dict]) -> dict[Run, dict]:
    """Flat settings in which each start is the name of the training that it is of, or "none". Where some runs of other seeds
    started from one seed of it, and some each from their own, the former say which.

    Args:
        settings: of each run, `a.b.c: value`, with what STARTS lists.
    """
    replaced = (*STARTS, *FOLLOW)
    named = {run: {key: value for key, value in flat.items() if key not in replaced} for run, flat in settings.items()}
    for content, place in STARTS.items():
        found = {run: _origin(run.folder, configs[run], content, place) for run in settings}
        for run in settings:
            named[run].pop(place, None)
        names = _names([origin for origin in found.values() if origin])
        for run, origin in found.items() if names else ():
            named[run][place] = "none" if origin is None else names[origin.training] + _whose(origin, configs[run], found)
    return named


def _names(origins: list[Origin]) -> dict[str, str]:
    """A name for each training; those that would share one get digits behind it."""
    first = {}
    for origin in sorted(origins):
        first.setdefault(origin.training, origin.name)
    shared = list(first.values())
    return {key: name if shared.count(name) < 2 else f"{name}-{key[:4]}" for key, name in first.items()}


def _whose(origin: Origin, config: dict, found: dict[Run, Origin | None]) -> str:
    """Which seed of that training it was, where that is not to be guessed."""
    others = {other.content for other in found.values() if other and other.training == origin.training}
    return "" if len(others) == 1 or origin.seed == config.get("seed") else f", seed {origin.seed}"


def _origin(folder: Path, config: dict, content: str, place: str, deepest: int = DEEPEST) -> Origin | None:
    """What the run in `folder` started from; None where it is of nothing."""
    said, digits = _at(config, place), _at(config, content)
    if not (isinstance(said, str) and said and digits):
        return None
    path = Path(said)
    parent = path.parent.parent if path.suffix == ".ckpt" else path
    which = f" ({path.stem})" if path.suffix == ".ckpt" and path.stem != "last" else ""
    for base in (Path(), *folder.resolve().parents) if deepest else ():  # a report may be typed elsewhere than the training
        run = Run(base / parent)
        theirs = run.config()
        if theirs:
            training = _training(run.folder, theirs, deepest - 1) + which
            return Origin(_without_seed(parent.name) + which, training, theirs.get("seed"), str(digits))
    return Origin(path.stem if path.suffix else path.name, str(digits), None, str(digits))


def _training(folder: Path, config: dict, deepest: int) -> str:
    """Digits of all that made a training, what it started from included, but the seeds."""
    alike = json.loads(json.dumps(config))
    for key in ("seed", *STARTS, *STARTS.values(), *FOLLOW, "model.space.sha256"):
        *above, leaf = key.split(".")
        node = _at(alike, ".".join(above)) if above else alike
        if isinstance(node, dict):
            node.pop(leaf, None)
    starts = {place: _origin(folder, config, content, place, deepest) for content, place in STARTS.items()}
    return config_hash({**alike, "starts": {place: start.training for place, start in starts.items() if start}})


def _without_seed(name: str) -> str:
    """A folder's name without its seed, and without the digits of a long one, in which the seed has its part."""
    name = re.sub(r"-[0-9a-f]{12}$", "", name)
    return re.sub(r"(^|_)seed-\d+(?=_|$)", "", name).strip("_") or "default"


def _at(config: object, key: str) -> object:
    """What a dotted key of a nested config has; None where there is no such thing."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
