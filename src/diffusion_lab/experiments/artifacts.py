"""Checkpoints that lie in W&B: `wandb:entity/project/name:alias` in place of a file."""

import os
from collections.abc import Iterator
from pathlib import Path

from diffusion_lab.errors import UserError

PREFIX = "wandb:"
SUFFIXES = (".ckpt", ".safetensors")
FETCHED: dict[str, str] = {}  # by this process: the path of a file to the name of its artifact


def is_artifact(name: object) -> bool:
    return isinstance(name, str) and name.startswith(PREFIX)


def fetched(name: str) -> Path:
    """The one checkpoint in a W&B artifact, downloaded below the cache where it is not there yet.

    Raises:
        UserError: W&B does not give it, or there is no checkpoint in it, or more than one.
    """
    import wandb

    wanted = name.removeprefix(PREFIX)
    cache = Path(os.environ.get("DIFFUSION_LAB_CACHE", "~/.cache/diffusion-lab")).expanduser() / "artifacts"
    try:
        artifact = wandb.Api().artifact(wanted)
        folder = Path(artifact.download(root=str(cache / artifact.digest)))
    except Exception as error:  # of no account, no network, no such artifact: each has an exception of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = "is it wandb:entity/project/name:alias, and have you typed `wandb login`?"
        raise UserError(f"{name} cannot be had from W&B ({reason}): {advice}") from error
    found = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES)
    if len(found) != 1:
        raise UserError(f"{name} holds {len(found)} checkpoints: give an artifact with one")
    FETCHED[str(found[0].resolve())] = artifact.qualified_name
    return found[0]


def used_in(config: dict) -> list[str]:
    """The names of the artifacts whose files a config, plain values, refers to."""
    return list(dict.fromkeys(FETCHED[value] for value in _texts(config) if value in FETCHED))


def _texts(node) -> Iterator[str]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _texts(child)
    elif isinstance(node, str):
        yield node
