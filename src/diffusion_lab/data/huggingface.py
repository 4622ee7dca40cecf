"""Data sets of Hugging Face's package `datasets`: on disk as it saves them, folders that it understands, and the hub's."""

import hashlib
import io
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_lab.data.sources import Source, converted, random_split, read_image
from diffusion_lab.errors import UserError

HELD_OUT = ("test", "validation", "valid", "val")  # names of splits that are held out where there is one
CLASSES = ("string", "large_string", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def dataset(
    path: str | None,
    channels: int = 3,
    subset: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    label_column: str | None = None,
    held_out: float = 0.1,
    split_seed: int = 0,
) -> Source:
    """The images of `split`; the first of the splits HELD_OUT that there is is held out, else a fraction of the images.

    Args:
        path: a folder, or owner/name on the hub.
        subset: which of several data sets of that name.
        image_column, label_column: None: the first column of images, and the first of classes, if any. A column of text,
            such as captions, is taken as classes where it is named here.

    Raises:
        UserError: the package is missing, there is no such data set, split or column, or there are fewer than two images.
    """
    if path is None:
        raise UserError("data.path is not set: give the folder of a data set, or owner/name on the hub")
    if not find_spec("datasets"):
        raise UserError("data=huggingface needs the package datasets: pip install 'diffusion-lab[huggingface]'")
    splits = _opened(path, subset)
    if split not in splits:
        raise UserError(f"data.path={path} has no split {split}: take data.source.split={'|'.join(splits)}")
    other = next((name for name in HELD_OUT if name in splits and name != split), None)
    named = {name: splits[name] for name in (split, other) if name}
    parts = list(named.values())
    image_column, label_column = (_column(parts[0], *which) for which in _wanted(path, image_column, label_column))
    names, labels = _labels(path, named, label_column)
    if image_column not in parts[-1].features:
        has = ", ".join(parts[-1].features)
        raise UserError(f"data.path={path}: split {other} has no column {image_column}: it has {has}")
    items = Rows(parts, image_column, labels, channels, path)
    if len(items) < 2:
        raise UserError(f"data.path={path} holds {len(items)} image(s) in {split}: one must be held out")
    if other:
        train, rest = np.split(np.arange(len(items)), [len(parts[0])])
    else:
        train, rest = random_split(len(items), held_out, seed=split_seed)
    said = [*(part._fingerprint for part in parts), image_column, label_column]  # which names the content, on disk too
    fingerprint = hashlib.sha256(repr(said).encode()).hexdigest()
    return Source(items, lambda i: f"image {i} of {path}", names, train, rest, fingerprint)


class Rows(Sequence):
    """Images of one or more data sets, decoded when indexed: items[i] is (PIL image, label)."""

    def __init__(self, parts: Sequence, column: str, labels: list[int], channels: int, path: str):
        from datasets import Image as Images
        from datasets import concatenate_datasets

        undecoded = [part.select_columns(column).cast_column(column, Images(decode=False)) for part in parts]
        self.rows, self.column, self.labels, self.channels = concatenate_datasets(undecoded), column, labels, channels
        place = Path(path).expanduser()
        self.folders = [Path(os.path.abspath(place)), place.resolve()] if place.is_dir() else []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        kept = self.rows[int(i)][self.column] or {}
        if kept.get("bytes") is None and not kept.get("path"):
            raise OSError("no image")
        if kept.get("bytes") is None:
            return read_image(self._checked(Path(kept["path"])), self.channels), self.labels[i]
        with Image.open(io.BytesIO(kept["bytes"])) as image:
            return converted(image, self.channels), self.labels[i]

    def _checked(self, file: Path) -> Path:
        """`file`, if it is in the data set's own folder, where that is one here.

        Raises:
            OSError: it is not: whoever made the data set names some other file of this machine.
        """
        if self.folders and not any(Path(os.path.abspath(file)).is_relative_to(folder) for folder in self.folders):
            raise OSError(f"{file} is outside of the data set's folder")
        return file


def _opened(path: str, subset: str | None) -> dict:
    """The splits, by name."""
    import datasets

    datasets.disable_progress_bars()
    place = Path(path).expanduser()
    try:
        if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(place))
        else:
            found = datasets.load_dataset(str(place) if place.is_dir() else path, subset)
    except Exception as error:  # of no such folder, no network, several subsets: each has an exception of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"data.path={path} cannot be opened: {reason}") from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _wanted(path: str, image_column: str | None, label_column: str | None) -> list[tuple]:
    return [(path, image_column, "Image", True), (path, label_column, "ClassLabel", False)]


def _column(part, path: str, name: str | None, kind: str, needed: bool) -> str | None:
    """The column of that name, or the first whose features are of that kind."""
    found = next((key for key, feature in part.features.items() if type(feature).__name__ == kind), None)
    if name is not None and name not in part.features:
        raise UserError(f"data.path={path} has no column {name}: it has {', '.join(part.features)}")
    if needed and not (name or found):
        raise UserError(f"data.path={path} has no column of images: it has {', '.join(part.features)}")
    return name or found


def _labels(path: str, parts: dict, column: str | None) -> tuple[list[str], list[int]]:
    """The names of the classes, and the class of each image, -1 where it has none; a class is the same in all splits by its
    name, for each split numbers its own.

    Args:
        parts: the splits by name, the one that is trained on first.
    """
    if column is None:
        return [], [-1] * sum(map(len, parts.values()))
    words = [word for name, part in parts.items() for word in _words(f"data.path={path}: split {name}", part, column)]
    first = next(iter(parts.values())).features[column]
    names = list(getattr(first, "names", None) or dict.fromkeys(word for word in words if word is not None))
    rows = {name: row for row, name in enumerate(names)} | {None: -1}
    unknown = next((word for word in words if word not in rows), None)
    if unknown is not None:
        raise UserError(f"data.path={path}: {column} has the class {unknown} in another split than that which is trained on")
    return names, [rows[word] for word in words]


def _words(place: str, part, column: str) -> list[str | None]:
    """The name of each image's class in one split; None for what has none."""
    feature = part.features.get(column)
    if feature is None:
        raise UserError(f"{place} has no column {column}: it has {', '.join(part.features)}")
    names = getattr(feature, "names", None)
    if not names and getattr(feature, "dtype", "") not in CLASSES:
        kind = type(feature).__name__
        raise UserError(f"{place}: {column} holds {kind}, no classes: name a column of words or whole numbers")
    values = part[column]
    if not names:
        return ["" if value is None else str(value) for value in values]
    wrong = next((value for value in values if value is not None and not -1 <= value < len(names)), None)
    if wrong is not None:
        raise UserError(f"{place}: {column} has the number {wrong}, of {len(names)} classes")
    return [None if value is None or value < 0 else names[value] for value in values]
