"""What a run started from, told in a report without the seed: another training of the same choices is no other choice."""

import re
from pathlib import Path

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
SEEDED = (
    "seed",
    "contents",
    "resume_from",
    "init_from",
    "teacher",
    "space",
)  # what depends on a seed, or on other runs


def with_origins(settings: dict[Run, dict], configs: dict[Run, dict]) -> dict[Run, dict]:
    """Flat settings in which each start is the name of the run that it is of, less its seed, or "none"; a file of no run is
    told from others by its content.

    Args:
        settings: of each run, `a.b.c: value`, with what STARTS lists.
    """
    replaced = (*STARTS, *FOLLOW)
    named = {run: {key: value for key, value in flat.items() if key not in replaced} for run, flat in settings.items()}
    for content, place in STARTS.items():
        found = {run: _origin(run, _at(configs[run], place), flat.get(content)) for run, flat in settings.items()}
        for run in settings:
            named[run].pop(place, None)
        if not any(found.values()):
            continue
        hashes = {}
        for name, digits in filter(None, found.values()):
            hashes.setdefault(name, set()).add(digits)
        for run, origin in found.items():
            name, digits = origin or ("none", "")
            named[run][place] = name if len(hashes.get(name, ())) < 2 else f"{name}-{digits[:4]}"
    return named


def _origin(run: Run, place: object, content: object) -> tuple[str, str] | None:
    """The name of what `run` started from, and digits that tell it from others of that name; None where it is of nothing."""
    if not (isinstance(place, str) and place and content):
        return None
    path = Path(place)
    folder = path.parent.parent if path.suffix == ".ckpt" else path
    for base in (Path(), *run.folder.resolve().parents):  # a report may be typed elsewhere than the training was
        config = Run(base / folder).config()
        if config:
            alike = {key: value for key, value in config.items() if key not in SEEDED}
            return _without_seed(folder.name), config_hash(alike)
    return path.stem if path.suffix else path.name, str(content)


def _without_seed(name: str) -> str:
    return re.sub(r"(^|_)seed-\d+(?=_|$)", "", name).strip("_") or "default"


def _at(config: dict, key: str) -> object:
    """What a dotted key of a nested config has; None where there is no such thing."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
