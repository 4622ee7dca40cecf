"""Arrays of images on disk: mapped into memory, with sums that tell damage, and grown image by image."""

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from diffusion_lab.errors import UserError
from diffusion_lab.files import replacing

log = logging.getLogger(__name__)

DAY_S = 86400
SAVED_EVERY_S = 15
CHECKED = 2**30  # bytes whose sums are compared each time, at the most
STRETCH = 2**24  # bytes that are read in one go meanwhile


class Kept(NamedTuple):
    """What is in a folder.

    Attributes:
        images: (N, H, W, C), mapped from disk and not to be written to.
        digests: (N,) uint64, equal for equal images alone.
        labels: (N,) int64.
        skipped: items that are no images.
    """

    images: np.ndarray
    digests: np.ndarray
    labels: np.ndarray
    skipped: np.ndarray


def kept(folder: Path, fill: Callable[["Growing"], None]) -> Kept:
    """What is in `folder` or, where that is absent or damaged, what `fill` adds to it, once for all processes.

    It grows beside, under a hidden name: another process sees all of it or nothing. Killed, it goes on from its last save,
    at most SAVED_EVERY_S and an image ago; a disk that is full gets its room back.

    Raises:
        UserError: the place cannot be written to; raised before the work.
    """
    found = kept_in(folder)
    if found:
        return found
    _check_place(folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".decoding-{folder.name}")
    with _alone(unfinished.with_name(f"{unfinished.name}.lock"), folder.name):
        found = kept_in(folder)  # another process may have made it
        if found:
            return found
        _remove_old(folder.parent, unfinished)
        growing = Growing(unfinished)
        if growing.done:
            log.info("going on after the first %d, which are kept", growing.done)
        try:
            fill(growing)
            growing.save()
            growing.file.close()
            unfinished.rename(folder)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        except BaseException:
            growing.save()
            raise
    return _opened(folder)


def kept_in(folder: Path) -> Kept | None:
    """What is in `folder`; None where it is absent or damaged. Of more than CHECKED bytes some stretches are looked at, each
    time others."""
    if not folder.is_dir():
        return None
    found = _sound(folder)
    if found is None:
        log.warning("%s is damaged: its images are decoded again", folder)
        shutil.rmtree(folder)
    return found


def _sound(folder: Path) -> Kept | None:
    """What is in `folder`, finished or not; None where that is damaged."""
    try:
        found = _opened(folder)
        stretches = np.array_split(np.arange(len(found.images)), -(-found.images.nbytes // STRETCH))
        order = np.random.default_rng().permutation(len(stretches))
        if all(_is_sound(found, stretches[i]) for i in order[: max(1, CHECKED // STRETCH)]):
            return found
    except Exception as error:  # of damaged files, NumPy and zipfile raise all sorts
        log.debug("%s: %s", folder, error)
    return None


def _opened(folder: Path) -> Kept:
    images = np.load(folder / "images.npy", mmap_mode="r")  # shared: of a private map the system wants as much free memory
    with np.load(folder / "beside.npz") as beside:  # whose damage is noticed by the zip's sums
        found = Kept(images[: len(beside["digests"])], *(beside[name] for name in Kept._fields[1:]))
    if not len(found.images) == len(found.digests) == len(found.labels):
        raise ValueError(f"{len(found.images)} images, {len(found.digests)} sums and {len(found.labels)} labels")
    return found


def _is_sound(found: Kept, rows: np.ndarray) -> bool:
    images = found.images[rows[0] : rows[-1] + 1]
    return found.digests[rows].tolist() == [_digest(image) for image in images]


def _digest(image: np.ndarray) -> int:
    """A number of 64 bits, equal for equal images alone."""
    return int.from_bytes(hashlib.blake2b(image, digest_size=8).digest())


class Growing:
    """Images that are added one by one, into `folder`, which is gone on with where there is something in it.

    Attributes:
        done: items behind, images or not.
        skipped: those of them that are no images.
    """

    def __init__(self, folder: Path):
        self.folder, self.saved = folder, time.monotonic()
        before = _sound(folder)
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.digests, self.labels, self.skipped, self.row = [], [], [], None
            self.file = (folder / "images.npy").open("wb")
        else:
            self.digests, self.labels, self.skipped = (part.tolist() for part in before[1:])
            self.row = before.images[0]
            self.file = (folder / "images.npy").open("r+b")
            self.file.truncate(before.images.offset + before.images.nbytes)
            self.file.seek(0, os.SEEK_END)

    @property
    def done(self) -> int:
        return len(self.labels) + len(self.skipped)

    def add(self, images: Sequence[np.ndarray], labels: Sequence[int]) -> None:
        """Add images, of one shape and type, and save now and then; but not between these."""
        for image, label in zip(images, labels, strict=True):
            if self.row is None:
                self.row = image
                self._write_header()
            self.file.write(np.ascontiguousarray(image))
            self.digests.append(_digest(np.ascontiguousarray(image)))
            self.labels.append(int(label))
        if time.monotonic() - self.saved > SAVED_EVERY_S:
            self.save()

    def skip(self, item: int) -> None:
        self.skipped.append(int(item))

    def save(self) -> None:
        """Put on the disk what there is, the array first: what counts it is never ahead of it."""
        if self.row is None:
            return
        self.file.seek(0)
        self._write_header()
        self.file.seek(0, os.SEEK_END)
        self.file.flush()
        os.fsync(self.file.fileno())
        types = {"digests": np.uint64, "labels": np.int64, "skipped": np.int64}
        with replacing(self.folder / "beside.npz") as scratch, scratch.open("wb") as file:
            np.savez(file, **{name: np.array(getattr(self, name), dtype) for name, dtype in types.items()})
        self.saved = time.monotonic()

    def _write_header(self) -> None:
        """Of NumPy's format, and of one length however many images there are."""
        descr = np.lib.format.dtype_to_descr(self.row.dtype)
        shape = (len(self.labels), *self.row.shape)
        np.lib.format.write_array_header_1_0(self.file, {"descr": descr, "fortran_order": False, "shape": shape})


@contextlib.contextmanager
def _alone(lock_file: Path, name: str) -> Iterator[None]:
    """Be the only process that makes this."""
    lock = FileLock(lock_file, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is decoding %s: waiting for it", name)
        lock.acquire()
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)
        lock.release()


def _remove_old(cache: Path, own: Path) -> None:
    """Remove what killed processes have not finished, and nobody went on with for a day."""
    for left in cache.glob(".decoding-*"):
        if left != own and time.time() - left.stat().st_mtime > DAY_S:
            shutil.rmtree(left, ignore_errors=True)


def _check_place(cache: Path) -> None:
    """Raise UserError where a cache cannot be written."""
    there = next(place for place in (cache, *cache.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        reason = "cannot be written to" if there.is_dir() else "is not a folder"
        raise UserError(f"{there} {reason}, and data.cache_dir={cache}: set it, or DIFFUSION_LAB_CACHE, to another folder")
