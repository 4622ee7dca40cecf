"""The data pipeline: decoding once, and epochs that are equally fast from the first."""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_lab.benchmarks.subject import experiment, random_images, title
from diffusion_lab.benchmarks.timing import Figure
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.data.images import Images


def pipeline(folder: Path, rounds: int, seconds: float, overrides: list[str], photographs: int) -> list[Figure]:
    """Batches a second in two epochs; decoding `photographs` photographs of 500 x 375 pixels, and opening them again."""
    config = experiment(*overrides)
    images = Images(random_images(config, folder, 64 * config["batch_size"]), config["batch_size"])
    first, second = (_epoch(images) for _ in range(2))
    what = f"first epoch's batches, {title(config)}"
    return [
        Figure(what, first, "batches/s", "second epoch's", second, first / second, "≥ 0.9"),
        *_decoding(folder, photographs),
    ]


def _epoch(images: Images) -> float:
    loader, start = images.train_dataloader(), time.perf_counter()
    batches = sum(1 for _ in loader)
    return batches / (time.perf_counter() - start)


def _decoding(folder: Path, count: int) -> list[Figure]:
    photographs = folder / "photographs"
    photographs.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(photographs / f"{i}.jpg", quality=90)
    data = experiment("data=folder", f"data.root={photographs}", f"data.cache_dir={folder}")["data"]
    times = []
    for _ in range(2):
        start = time.perf_counter()
        decode_source(data, open_source(data))
        times.append(time.perf_counter() - start)
    return [
        Figure(f"decoding {count} photographs, once", count / times[0], "images/s"),
        Figure(f"opening {count} decoded photographs again", count / times[1], "images/s"),
    ]
