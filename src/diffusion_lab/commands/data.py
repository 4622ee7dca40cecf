"""From the `data` part of a config to decoded images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_lab.parts import build

if TYPE_CHECKING:  # NumPy and Pillow are not needed to find a mistake in a config
    from diffusion_lab.data.cache import Decoded
    from diffusion_lab.data.sources import Source


def open_source(data: dict) -> Source:
    """Find the images of a `data` config, under its `root`: that is absolute, or where they are now if they have moved."""
    moved = {"root": data["root"]} if "root" in data["source"] else {}
    return build({**data["source"], **moved}, "data.source")


def decode_source(data: dict, source: Source) -> Decoded:
    """Decode them as the config says, or map them from the cache."""
    from diffusion_lab.data.cache import decode

    settings = ("name", "image_size", "channels", "cache_dir", "antialias", "max_images", "on_error")
    return decode(source, **{key: data[key] for key in settings})
