"""What a run's folder is called, and the data set of a config. Needs no torch."""

import hashlib
import os
import re
from pathlib import Path

OWN_IMAGES = {"folder": "root", "captions": "root", "huggingface": "path"}  # data sets: which key says where they are
LONG_NAME = 60  # letters that a run's folder has not
MEANS = (  # overrides that say least about a run: whole keys, or their first part
    *(
        "epochs",
        "steps",
        "minutes",
        "early_stop",
        "patience",
        "batch_size",
        "accumulate",
        "lr_scaling",
        "gradient_checkpointing",
    ),
    *("threads", "compile", "rehearsal", "checkpoints", "trainer", "metrics", "metrics/figures", "monitor", "objective"),
    *("grid", "snapshots", "first", "data.max_images", "init_from", "resume_from", "teacher.checkpoint"),
    *("space.autoencoder", "guidance.checkpoint"),
)


def data_name(data: dict) -> str | None:
    """What the data set of a config is called: one's own images by where they are."""
    name = data.get("name")
    place = data.get(OWN_IMAGES.get(str(name)))
    return folder_name(place, otherwise=name) if isinstance(place, str) else name


def folder_name(root: str | None, otherwise: str = "") -> str:
    """What a folder of images is called: the last part of its path."""
    name = Path(root).expanduser().resolve().name if root else ""
    return name.encode("utf-8", "backslashreplace").decode() or otherwise


def run_name(override_dirname: str, *places: str | None) -> str:
    """A run's folder name from its overrides, "default" without any; safe as one folder name, and on a command line. A long
    one says the choices and the seed first, as many as it has letters for, and ends in twelve hex digits of all.

    Args:
        override_dirname: Hydra's, its words with tabs between them.
        places: where its images are. Where one is among the overrides, its last part stands for it, and four hex digits that
            tell it from others of that name.
    """
    for place in filter(None, places):
        short = f"{folder_name(place)}-{_digits(os.fsencode(Path(place).expanduser().resolve()), 4)}"
        typed = rf"data\.(root|path)-(['\"]?){re.escape(str(place))}\2"
        override_dirname = re.sub(typed, lambda _, short=short: short, override_dirname)
    words = [_as_name(word) for word in override_dirname.split("\t")]
    name = "_".join(words) or "default"
    if len(name) < LONG_NAME:
        return name
    said, room = [], LONG_NAME - 14
    for word in sorted(words, key=_use_of):
        if len("_".join([*said, word])) <= room:
            said.append(word)
    return f"{'_'.join(said) or name[:room]}-{_digits(name.encode(), 12)}"


def _as_name(word: str) -> str:
    """An override without the letters that a shell minds. Where another one could look the same then, as a path with a space
    in it and one with an underscore, four hex digits tell them apart."""
    name = re.sub(r"[^\w.+@-]+", "_", word)
    if re.search(r"[^\w.+@/\[\]{}():,'\"~-]", re.sub(r"([,:])\s+", r"\1", word)):
        name += f"-{_digits(word.encode('utf-8', 'surrogateescape'), 4)}"
    return name


def _use_of(word: str) -> int:
    """The less, the more an override says about a run among others: choices, the seed, settings, and at last how long it is
    and how it is computed, watched and scored."""
    key, _, value = word.lstrip("+").partition("-")
    if key == "seed":
        return 1
    if key.split(".")[0] in MEANS or key in MEANS:
        return 3
    is_choice = "." not in key and not re.fullmatch(r"[-+.e\d]+|true|false|null", value)
    return 0 if is_choice else 2


def _digits(content: bytes, count: int) -> str:
    return hashlib.sha256(content).hexdigest()[:count]
