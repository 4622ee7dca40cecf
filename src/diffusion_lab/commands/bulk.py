"""Images written while they are drawn: one PNG each, or all in one .npz. Never all are in memory; a kill costs seconds."""

import os
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusion_lab.data.kept import Growing
from diffusion_lab.files import replacing
from diffusion_lab.spaces.pixels import over_white

NPZ = "samples.npz"
GROWING = ".samples"


class Pngs:
    """00000.png and so on in `folder`, written in parallel with each other and with the drawing of the next batch.

    Args:
        goes_on: those that are there are of the same drawing.

    Attributes:
        done: how many are there already, the first ones.
    """

    def __init__(self, folder: Path, goes_on: bool):
        self.folder, self.pool, self.writing = folder, ThreadPoolExecutor(os.cpu_count()), []
        names = set(os.listdir(folder)) if goes_on and folder.is_dir() else set()
        self.done = next(i for i in count() if png(i) not in names)

    def add(self, images: Tensor, first: int) -> None:
        """Write images (B, C, H, W), values from 0 to 1, of which the first has that number."""
        self.wait()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.writing = [self.pool.submit(self._write, first + i, pixels) for i, pixels in enumerate(_pixels(images))]

    def _write(self, number: int, pixels: np.ndarray) -> None:
        scratch = self.folder / f".{png(number)}"
        Image.fromarray(pixels).save(scratch, "PNG")
        scratch.replace(self.folder / png(number))

    def wait(self) -> None:
        for written in self.writing:
            written.result()

    def first(self, most: int) -> np.ndarray:
        """The first of them again, (N, H, W, 3 or 4) uint8; fewer than `most` where there are fewer."""
        self.wait()
        files = (self.folder / png(i) for i in range(most))
        return np.stack([np.asarray(Image.open(file)) for file in files if file.is_file()])

    def finish(self, labels: Tensor | None) -> None:
        self.wait()
        self.pool.shutdown()


class Npz:
    """samples.npz in `folder`, as ADM's evaluator reads it (Dhariwal and Nichol 2021): arr_0, uint8 (N, H, W, 3), and arr_1,
    the labels (N,), where there are any. Grey is repeated, transparency lies over white. Arguments, attributes and methods
    are those of Pngs."""

    def __init__(self, folder: Path, goes_on: bool):
        self.folder, self.done = folder, 0
        if goes_on and (folder / NPZ).is_file():
            self.done = sys.maxsize
        elif goes_on and (folder / GROWING).is_dir():
            self.done = self.growing.done

    @cached_property
    def growing(self) -> Growing:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Growing(self.folder / GROWING)

    def add(self, images: Tensor, first: int) -> None:
        self.growing.add(_pixels(over_white(images)), [-1] * len(images))

    def first(self, most: int) -> np.ndarray:
        if self.done == sys.maxsize:
            return _first_rows(self.folder / NPZ, most)
        self.growing.save()
        return np.load(self.folder / GROWING / "images.npy", mmap_mode="r")[:most].copy()

    def finish(self, labels: Tensor | None) -> None:
        if self.done == sys.maxsize:
            return
        self.growing.save()
        self.growing.file.close()
        with replacing(self.folder / NPZ) as scratch, zipfile.ZipFile(scratch, "w", allowZip64=True) as file:
            file.write(self.folder / GROWING / "images.npy", "arr_0.npy")
            if labels is not None and (labels >= 0).all():
                with file.open("arr_1.npy", "w") as inner:
                    np.save(inner, labels.numpy())
        shutil.rmtree(self.folder / GROWING)


def _first_rows(file: Path, most: int) -> np.ndarray:
    """Of arr_0, without reading the others."""
    with zipfile.ZipFile(file) as whole, whole.open("arr_0.npy") as array:
        np.lib.format.read_magic(array)
        (count, *shape), _, dtype = np.lib.format.read_array_header_1_0(array)
        rows = min(most, count)
        return np.frombuffer(array.read(rows * int(np.prod(shape)) * dtype.itemsize), dtype).reshape(rows, *shape).copy()


FILES = {"png": Pngs, "npz": Npz}


def remove_drawn(folder: Path, most: int) -> None:
    """Remove what an earlier drawing of so many images has left in `folder`."""
    for number in range(most):
        (folder / png(number)).unlink(missing_ok=True)
    (folder / NPZ).unlink(missing_ok=True)
    shutil.rmtree(folder / GROWING, ignore_errors=True)


def png(number: int) -> str:
    return f"{number:05d}.png"


def _pixels(images: Tensor) -> np.ndarray:
    """Images (B, C, H, W) as torchvision's save_image has them in a file: (B, H, W, 3 or 4) uint8."""
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    return (images * 255 + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
