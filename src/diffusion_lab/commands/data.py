"""From the `data` part of a config to decoded images."""

from hydra.utils import instantiate

from diffusion_lab.data.cache import Decoded, decode
from diffusion_lab.data.sources import Source


def open_source(data: dict) -> Source:
    """Find the images of a `data` config, under its `root`: that is absolute, or where they are now if they have moved."""
    moved = {"root": data["root"]} if "root" in data["source"] else {}
    return instantiate(data["source"], **moved)


def decode_source(data: dict, source: Source) -> Decoded:
    """Decode them as the config says, or map them from the cache."""
    settings = ("name", "image_size", "channels", "cache_dir", "antialias", "max_images", "on_error")
    return decode(source, **{key: data[key] for key in settings})
