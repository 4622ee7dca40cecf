"""From the `data` part of a config to decoded images."""

from hydra.utils import instantiate

from diffusion_lab.data.cache import Decoded, decode
from diffusion_lab.data.sources import Source


def open_source(data: dict) -> Source:
    """Find the images of a `data` config."""
    return instantiate(data["source"])


def decode_source(data: dict, source: Source) -> Decoded:
    """Decode them as the config says, or map them from the cache."""
    settings = ("name", "image_size", "channels", "cache_dir", "antialias", "max_images", "on_error")
    return decode(source, **{key: data[key] for key in settings})
