"""Many images: what their first and second start take, what a kill loses, and a training on more than memory holds."""

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from diffusion_lab.benchmarks.memory import status
from diffusion_lab.benchmarks.subject import experiment, title
from diffusion_lab.benchmarks.timing import Figure
from diffusion_lab.benchmarks.training import lightning_loop
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.data.cache import Decoded
from diffusion_lab.hardware import keep_freed_memory
from diffusion_lab.sizes import sides

SIDE = 40  # pixels of the files, which are decoded to 32
CLASSES = 100


def starts(folder: Path, rounds: int, seconds: float, images: int) -> list[Figure]:
    """Listing and decoding a folder of so many small JPEG files, again when they are kept, and killed half way."""
    root = folder / "images"
    _write(root, images)
    settings = ("data=folder", f"data.root={root}", "data.image_size=32")
    data, other = (experiment(*settings, f"data.cache_dir={folder}/{cache}")["data"] for cache in ("cache", "other"))
    listing, first, peak = _apart(_start, data)
    again, second, _ = _apart(_start, data)
    lost, kept = _lost(
        multiprocessing.get_context("spawn").Process(target=_start, args=(other,)), Path(other["cache_dir"]), first / 2
    )
    rest = _apart(_start, other)[1]
    return [
        Figure(f"listing {images:,} images", listing, "s"),
        Figure("decoding them, once", first, "s"),
        Figure("peak of process memory meanwhile", peak, "MB", aim="< 1500"),
        Figure("second start: listing, and opening what is kept", again + second, "s"),
        Figure(f"lost by a kill after {kept:,} images", lost, "s", aim="< 60"),
        Figure("decoding the rest", rest, "s"),
    ]


def _apart(work: Callable, *arguments):
    """What `work` returns in a process of its own, which may begin others."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _lost(process: multiprocessing.Process, cache: Path, seconds: float) -> tuple[float, int]:
    """Seconds of work that are lost where `process` is killed after it has decoded for so long, and images that are not."""
    process.start()
    while not list(cache.glob(".decoding-*/images.npy")):
        time.sleep(0.01)
    began = time.time()
    time.sleep(seconds)
    process.kill()
    killed = time.time()
    process.join()
    saved = list(cache.glob(".decoding-*/beside.npz"))
    return killed - (saved[0].stat().st_mtime if saved else began), len(np.load(saved[0])["labels"]) if saved else 0


def _write(root: Path, count: int) -> None:
    """Smooth colours, in CLASSES folders."""
    random = np.random.default_rng(0)
    for i, pixels in enumerate(random.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)):
        place = root / f"class{i % CLASSES:02d}"
        if i < CLASSES:
            place.mkdir(parents=True)
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place / f"{i:07d}.jpg")


def _start(data: dict) -> tuple[float, float, float]:
    """Seconds of listing, and of decoding or opening; and the peak of this process's memory in MB."""
    begin = time.perf_counter()
    source = open_source(data)
    listed = time.perf_counter()
    decode_source(data, source)
    return listed - begin, time.perf_counter() - listed, status("VmHWM")


def beyond_memory(
    folder: Path, rounds: int, seconds: float, overrides: list[str], gigabytes: float, steps: int
) -> list[Figure]:
    """Memory of a training on so many GB of images: a file that is all holes, so that it takes no room on the disk."""
    config = experiment(*overrides)
    first, last = _apart(_train, config, folder, gigabytes, steps)
    return [
        Figure(f"process memory beside the file, {gigabytes:g} GB of images, {title(config)}", last, "MB"),
        Figure(f"its growth from step {steps // 10} to {steps}", 100 * (last - first) / first, "%", aim="< 2"),
    ]


class _Memory(Callback):
    """MB of the process that are not pages of a file, after a tenth of the steps and after all."""

    def __init__(self, steps: int):
        self.steps, self.measured = steps, []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if batch_idx + 1 in (self.steps // 10, self.steps):
            self.measured.append(status("RssAnon"))
        trainer.should_stop = batch_idx + 1 >= self.steps


def _train(config: dict, folder: Path, gigabytes: float, steps: int) -> list[float]:
    keep_freed_memory()
    memory = _Memory(steps)
    lightning_loop(config, folder, memory, decoded=_of_holes(config, folder / "images.npy", gigabytes))
    return memory.measured


def _of_holes(config: dict, file: Path, gigabytes: float) -> Decoded:
    """Black images, that the disk does not hold."""
    shape = (*sides(config["data"]["image_size"]), config["data"]["channels"])
    count = int(gigabytes * 1e9) // int(np.prod(shape))
    with file.open("wb") as written:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(written, header)
        os.truncate(file, written.tell() + count * int(np.prod(shape)))
    images, labels = np.load(file, mmap_mode="r"), np.arange(count) % (config["data"]["num_classes"] or 1)
    return Decoded(images, labels, np.arange(1, count), np.arange(1), [], "holes")
