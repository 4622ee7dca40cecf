"""What tells experiments, and files, apart: hashes of configs and of contents. Needs no torch."""

import hashlib
import json
from pathlib import Path

# What may change without changing the experiment: names, places, how it is watched and how it is computed.
NOT_PART_OF_THE_EXPERIMENT = (
    *("name", "logger", "grid", "objective", "compile", "data.cache_dir", "checkpoint", "trusted", "trial"),
    "model.conditions.names",  # found in the data
    "resume_from",  # a place: its content counts
    *("checkpoints", "rehearsal", "threads", "out"),
)
# Settings that came later, at which they change nothing: the runs of before keep their hash.
LATER = {
    "first": None,
    "steps": None,
    "minutes": None,
    "early_stop": None,
    "patience": 5,
    "lr_scaling": None,
    "gradient_clip": None,
    "accumulate": 1,
    "gradient_checkpointing": False,
    "trainer.accumulate_grad_batches": 1,
    "data.held_out_images": None,
}


def config_hash(config: dict) -> str:
    """Twelve hex digits that differ whenever two configs are different experiments."""
    config = without_later_defaults(config)
    for key in NOT_PART_OF_THE_EXPERIMENT:
        node, leaf = _place(config, key)
        node.pop(leaf, None)
    return hashlib.sha256(json.dumps(one_number(config), sort_keys=True).encode()).hexdigest()[:12]


def without_later_defaults(config: dict) -> dict:
    """A copy of a config, less what LATER says."""
    config = json.loads(json.dumps(config))
    for key, default in LATER.items():
        node, leaf = _place(config, key)
        if node.get(leaf, default) == default:
            node.pop(leaf, None)
    return config


def _place(config: dict, key: str) -> tuple[dict, str]:
    """The mapping in which the last name of a dotted key stands, an empty one where it does not; and that name."""
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = config.get(parent)
        config = inner if isinstance(inner, dict) else {}
    return config, leaf


def one_number(value):
    """A plain value, nested or not, with 3 for 3.0: they are one setting."""
    if isinstance(value, dict):
        return {key: one_number(each) for key, each in value.items()}
    if isinstance(value, list):
        return [one_number(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def sha256_of(file: Path) -> str:
    """What names a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def content_of(path: Path) -> str:
    """What names the content of a file, or of a folder with weights."""
    if path.is_file():
        return sha256_of(path)
    named = [f"{file.relative_to(path)} {sha256_of(file)}" for file in sorted(path.rglob("*.safetensors"))]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()
