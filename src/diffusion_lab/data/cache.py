"""Images decoded once, into a uint8 array on disk that every later run maps into memory."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from diffusion_lab.data.sources import Source
from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size, sides, size_text
from diffusion_lab.wording import counted

log = logging.getLogger(__name__)

DAY_S = 86400
LAYOUT = 3  # part of every key: raise it when what is stored changes


@dataclass(frozen=True)
class Decoded:
    """Decoded images.

    Attributes:
        images: (N, H, W, C) uint8, mapped from disk.
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

    @cached_property
    def held_out_key(self) -> str:
        """What names the held-out images, by their pixels alone, wherever they are."""
        return hashlib.sha256(np.ascontiguousarray(self.images[self.held_out])).hexdigest()[:12]

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
    kept = chosen(source, max_images)
    size = image_size if isinstance(image_size, int) else list(sides(image_size))
    settings = [LAYOUT, source.fingerprint, size, channels, antialias, max_images]
    key = f"{name}-{size_text(size).replace(' ', '')}px-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]}"
    folder = Path(cache_dir).expanduser() / key
    images, labels, skipped = kept_in(folder) or _fill(folder, source, kept, size, channels, antialias, on_error)
    names = [source.name_of(int(i)) for i in skipped]
    if names and on_error != "skip":
        raise UserError(_broken(names))
    kept = np.setdiff1d(kept, skipped)
    position = np.full(len(source.items), -1)
    position[kept] = np.arange(len(kept))
    train, held_out = (positions[positions >= 0] for positions in (position[source.train], position[source.held_out]))
    held_out = np.random.default_rng(0).permutation(held_out)  # often sorted by class: any part of it must be like the whole
    if not len(train) or not len(held_out):
        raise UserError(f"data.max_images={max_images} leaves {len(train)} images to train and {len(held_out)} held out")
    decoded = Decoded(images, labels, train, held_out, source.class_names, key, tuple(names))
    for remark in remarks(decoded):
        log.warning(remark)
    return decoded


def chosen(source: Source, max_images: int | None) -> np.ndarray:
    """Which of its items are used, in order."""
    kept = np.arange(len(source.items))
    if max_images is None:
        return kept
    # A generator of its own: with a split's seed, the first N of the shuffle would all be held out.
    return np.sort(np.random.default_rng((0, 1)).permutation(kept)[:max_images])


def remarks(decoded: Decoded) -> list[str]:
    """What one should know of these images, a line each."""
    said = []
    if decoded.skipped:
        said.append(
            f"data.on_error=skip: left out {counted(len(decoded.skipped), 'broken image')}: {', '.join(decoded.skipped)}"
        )
    copies = copies_held_out(decoded)
    if copies:
        said.append(f"{copies} of {len(decoded.held_out)} held-out images are also among those to train on, pixel by pixel")
    return said


def copies_held_out(decoded: Decoded) -> int:
    """How many held-out images are also training images, pixel by pixel."""
    digests = _digests(decoded.images)
    return int(np.isin(digests[decoded.held_out], digests[decoded.train]).sum())


def _digests(images: np.ndarray) -> np.ndarray:
    """A number of 64 bits (N,) for each image, equal for equal images alone."""
    return np.array([int.from_bytes(hashlib.blake2b(image, digest_size=8).digest()) for image in images], dtype=np.uint64)


def kept_in(folder: Path) -> tuple[np.ndarray, np.ndarray, list[int]] | None:
    """The images (N, H, W, C), labels (N,) and skipped items in `folder`; None where they are absent or damaged."""
    if not folder.is_dir():
        return None
    try:
        images = np.load(folder / "images.npy", mmap_mode="c")
        with np.load(folder / "beside.npz") as beside:  # whose damage is noticed by the zip's sums
            if np.array_equal(_digests(images), beside["digests"]):
                return images, beside["labels"], beside["skipped"].tolist()
    except Exception as error:  # of damaged files, NumPy and zipfile raise all sorts
        log.debug("%s: %s", folder, error)
    log.warning("%s is damaged: its images are decoded again", folder)
    shutil.rmtree(folder)
    return None


def _fill(
    folder: Path, source: Source, kept: np.ndarray, size: Size, channels: int, antialias: bool, on_error: str
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Decode all items, and keep them in `folder`."""
    _check_place(folder.parent)

    def one(i: int) -> tuple[np.ndarray, int] | str:
        try:
            image, label = source.items[int(i)]
            return fitted(image, size, channels, antialias), label
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return f"{source.name_of(int(i))} ({error})"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(one, kept, chunksize=1)
        results = list(track(results, "Decoding images", total=len(kept), console=Console(stderr=True), transient=True))
    broken = [result for result in results if isinstance(result, str)]
    if broken and on_error != "skip":
        raise UserError(_broken(broken))
    good = [result for result in results if not isinstance(result, str)]
    if not good:
        raise UserError(f"none of the {len(kept)} images could be read, the first: {broken[0]}")
    labels = np.array([label for _, label in good], dtype=np.int64)
    skipped = [int(i) for i, result in zip(kept, results, strict=True) if isinstance(result, str)]
    return keep_in(folder, np.stack([image for image, _ in good]), labels, skipped)


def keep_in(
    folder: Path, images: np.ndarray, labels: np.ndarray, skipped: list[int]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Write what `kept_in` reads beside `folder`, then rename it: another process sees all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".decoding-*"):  # by a killed process
        if time.time() - left.stat().st_mtime > DAY_S:
            shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".decoding-"))
    try:
        np.save(scratch / "images.npy", images)
        beside = {"digests": _digests(images), "labels": labels, "skipped": np.array(skipped, dtype=np.int64)}
        np.savez(scratch / "beside.npz", **beside)
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first, with the same content
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return np.load(folder / "images.npy", mmap_mode="c"), labels, skipped


def _check_place(cache: Path) -> None:
    """Raise UserError, before the work, where a cache cannot be written."""
    there = next(place for place in (cache, *cache.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        reason = "cannot be written to" if there.is_dir() else "is not a folder"
        raise UserError(f"{there} {reason}, and data.cache_dir={cache}: set it, or DIFFUSION_LAB_CACHE, to another folder")


def _broken(names: list[str]) -> str:
    shown = "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{len(names)} broken image(s): {shown}. Mend or remove them, or take data.on_error=skip"


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
