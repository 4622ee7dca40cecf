"""From the `data` part of a config to decoded images."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from diffusion_lab.commands.suited import forget_folders
from diffusion_lab.errors import UserError
from diffusion_lab.parts import build

if TYPE_CHECKING:  # NumPy and Pillow are not needed to find a mistake in a config
    from diffusion_lab.data.cache import Decoded
    from diffusion_lab.data.sources import Source


def open_source(data: dict) -> Source:
    """Find the images of a `data` config, at its `root` or `path`: absolute, or where they are now if they have moved.

    They are looked for once in a job's time.
    """
    if "_target_" not in (data.get("source") or {}):
        raise UserError("data.source has no `_target_`: take one of the choices of data=, see --help")
    moved = {key: data[key] for key in ("root", "path") if key in data["source"]}
    return _opened(json.dumps({**data["source"], **moved}, sort_keys=True))


def forget_sources() -> None:
    """Look for images anew: what a job finds is what is there when it begins."""
    _opened.cache_clear()
    forget_folders()


@cache
def _opened(source: str) -> Source:
    return build(json.loads(source), "data.source")


def decode_source(data: dict, source: Source) -> Decoded:
    """Decode them as the config says, or map them from the cache."""
    from diffusion_lab.data.cache import decode

    settings = ("name", "image_size", "channels", "cache_dir", "antialias", "max_images", "on_error")
    return decode(source, **{key: data[key] for key in settings})
