"""Images decoded once, into a uint8 array on disk that every later run maps into memory."""

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from diffusion_lab.data.kept import Growing, kept
from diffusion_lab.data.sources import Source
from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size, sides, size_text
from diffusion_lab.wording import counted

log = logging.getLogger(__name__)

LAYOUT = 3  # part of every key: raise it when what is stored changes


@dataclass(frozen=True)
class Decoded:
    """Decoded images.

    Attributes:
        images: (N, H, W, C) uint8, mapped from disk and not to be written to.
        labels: (N,) int64, -1 without a class.
        train, held_out: indices into images; the held-out ones shuffled once, so that their first N are like all.
        class_names: names of the classes, empty where there are none.
        key: names content and settings; equal keys mean equal images.
        skipped: what was left out because it could not be read.
    """

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    class_names: list[str]
    key: str
    skipped: tuple[str, ...] = ()

    def __getstate__(self) -> dict:
        """For another process of this machine: images that are mapped from disk are mapped there too, not copied."""
        images = self.images
        whole = isinstance(images, np.memmap) and images.offset + images.nbytes == os.path.getsize(images.filename)
        return {**vars(self), "images": images.filename if whole else images}

    def __setstate__(self, state: dict) -> None:
        images = state["images"]
        vars(self).update(state, images=images if isinstance(images, np.ndarray) else np.load(images, mmap_mode="r"))

    @cached_property
    def held_out_key(self) -> str:
        """What names the held-out images, by their pixels alone, wherever they are."""
        digest = hashlib.sha256()
        for row in self.held_out:
            digest.update(np.ascontiguousarray(self.images[row]))
        return digest.hexdigest()[:12]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width


def decode(
    source: Source,
    name: str,
    image_size: Size,
    channels: int,
    cache_dir: str,
    antialias: bool = True,
    max_images: int | None = None,
    on_error: str = "raise",
) -> Decoded:
    """Return all images of `source`, from the cache if they are there, else decoded in parallel and cached.

    Args:
        image_size: side in pixels of the squares, or (height, width), that the images' middles are cropped and resized to.
        channels: 1 (grey), 3 (colour) or 4 (with transparency).
        antialias: Pillow's bicubic resize with antialiasing; False is bilinear without, as the reference system.
        max_images: use the first N only, in a fixed random order, so that both splits and all classes stay in proportion.
        on_error: "raise" names the broken images and stops; "skip" leaves them out and lists them.
    """
    items = chosen(source, max_images)
    size = image_size if isinstance(image_size, int) else list(sides(image_size))
    settings = [LAYOUT, source.fingerprint, size, channels, antialias, max_images]
    key = f"{name}-{size_text(size).replace(' ', '')}px-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]}"
    folder = Path(cache_dir).expanduser() / key
    one = partial(_decoded, source, size, channels, antialias)
    images, digests, labels, skipped = kept(folder, partial(_fill, items=items, one=one, on_error=on_error))
    if len(skipped) and on_error != "skip":
        raise UserError(_broken(skipped, one))
    names = [source.name_of(int(i)) for i in skipped]
    items = np.setdiff1d(items, skipped)
    position = np.full(len(source.items), -1)
    position[items] = np.arange(len(items))
    train, held_out = (positions[positions >= 0] for positions in (position[source.train], position[source.held_out]))
    held_out = np.random.default_rng(0).permutation(held_out)  # often sorted by class: any part of it must be like the whole
    if not len(train) or not len(held_out):
        raise UserError(f"data.max_images={max_images} leaves {len(train)} images to train and {len(held_out)} held out")
    decoded = Decoded(images, labels, train, held_out, source.class_names, key, tuple(names))
    for remark in remarks(decoded, digests):
        log.warning(remark)
    return decoded


def chosen(source: Source, max_images: int | None) -> np.ndarray:
    """Which of its items are used, in order."""
    kept = np.arange(len(source.items))
    if max_images is None:
        return kept
    # A generator of its own: with a split's seed, the first N of the shuffle would all be held out.
    return np.sort(np.random.default_rng((0, 1)).permutation(kept)[:max_images])


def remarks(decoded: Decoded, digests: np.ndarray) -> list[str]:
    """What one should know of these images, a line each.

    Args:
        digests: a number for each image, equal for equal ones alone.
    """
    said = []
    if decoded.skipped:
        said.append(
            f"data.on_error=skip: left out {counted(len(decoded.skipped), 'broken image')}: {', '.join(decoded.skipped)}"
        )
    copies = int(np.isin(digests[decoded.held_out], digests[decoded.train]).sum())
    if copies:
        said.append(f"{copies} of {len(decoded.held_out)} held-out images are also among those to train on, pixel by pixel")
    return said


def _fill(growing: Growing, items: np.ndarray, one: Callable[[int], tuple[np.ndarray, int] | str], on_error: str) -> None:
    """Decode the rest of the items, all of them also where some are broken: `on_error=skip` then goes on from there.

    Raises:
        UserError: some are broken and not to be skipped, or all are.
    """
    todo = items[growing.done :]
    shown = {"total": len(items), "completed": growing.done, "console": Console(stderr=True), "transient": True}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for item, result in zip(todo, track(_in_order(pool, one, todo), "Decoding images", **shown), strict=True):
            if isinstance(result, str):
                growing.skip(item)
            else:
                growing.add(*([part] for part in result))
    if growing.skipped and on_error != "skip":
        raise UserError(_broken(growing.skipped, one))
    if len(growing.skipped) == len(items):
        raise UserError(f"none of the {len(items)} images could be read, the first: {one(growing.skipped[0])}")


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: Iterable) -> Iterator:
    """As `pool.map`, but a few items ahead alone: else what is done waits in memory for what is not."""
    ahead = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) > 8 * os.cpu_count():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _decoded(source: Source, size: Size, channels: int, antialias: bool, item: int) -> tuple[np.ndarray, int] | str:
    """The pixels (H, W, C) and label of one item, or its name and what is wrong with it."""
    try:
        image, label = source.items[int(item)]
        return fitted(image, size, channels, antialias), label
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{source.name_of(int(item))} ({error})"


def _broken(items: list[int] | np.ndarray, one: Callable[[int], tuple[np.ndarray, int] | str]) -> str:
    said = [str(one(item)) for item in items[:3]]
    shown = "; ".join(said) + (f"; and {len(items) - 3} more" if len(items) > 3 else "")
    return f"{len(items)} broken image(s): {shown}. Mend or remove them, or take data.on_error=skip"


def fitted(image: Image.Image, size: Size, channels: int, antialias: bool) -> np.ndarray:
    """The largest middle part of the wanted shape, resized to it; (height, width, channels) uint8."""
    height, width = sides(size)
    image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    if antialias:
        pixels = np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC))
    else:
        scale = min(image.width / width, image.height / height)
        across, down = max(1, round(scale * width)), max(1, round(scale * height))
        left, top = (image.width - across) // 2, (image.height - down) // 2
        middle = np.asarray(image.crop((left, top, left + across, top + down)))
        pixels = _resize_without_antialias(middle, (height, width))
    return pixels.reshape(height, width, channels)


def _resize_without_antialias(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch

    tensor = torch.from_numpy(pixels.astype(np.float32)).reshape(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", antialias=False)
    return resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
