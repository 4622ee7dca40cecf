"""Files written so that a kill, a full disk or a reader beside finds the old file or the new one, never a part."""

import contextlib
import glob
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffusion_lab.errors import UserError

HOUR_S = 3600  # another machine's process, which shares the disk, may still be writing until then


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A file beside `file` to write to. It takes `file`'s place, safely on the disk, if all goes well; else it goes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield scratch
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(file)
    except OSError as error:
        error.filename = error.filename or str(file)  # a full disk is said of no file
        raise
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def filling(folder: Path, mark: str) -> Iterator[Path]:
    """An empty folder of `folder`'s name to write into, beside it. Its files come to `folder` if all goes well: all at once
    where nothing is there yet, else each in the place of the one of its name; else they go.

    Args:
        mark: see `check_ours`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch = beside / folder.name
    _remove_killed(folder)
    shutil.rmtree(beside, ignore_errors=True)  # of an earlier process of this number, that was killed
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if not folder.exists() or not any(folder.iterdir()):
            scratch.replace(folder)
            return
        written = [file for file in scratch.rglob("*") if file.is_file()]
        check_ours(folder, [str(file.relative_to(scratch)) for file in written], mark)
        for file in written:
            place = folder / file.relative_to(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    except OSError as error:
        error.filename = str(error.filename or folder).replace(str(scratch), str(folder))
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_ours(folder: Path, names: Iterable[str], mark: str) -> None:
    """Raise UserError where one of these files is in `folder` and `mark` is not, which each of our commands leaves there: it
    is a person's own, and would be replaced."""
    taken = next((folder / name for name in names if (folder / name).exists()), None)
    if taken and not (folder / mark).exists():
        raise UserError(f"{taken} was not made here, and would be replaced: give another folder")


def _remove_killed(folder: Path) -> None:
    """Remove what was being written for `folder` an hour ago and longer, by a process that is not here any more."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.[0-9]*"):
        pid = left.suffix[1:]
        if pid.isdigit() and not is_running(int(pid)) and time.time() - left.stat().st_mtime > HOUR_S:
            shutil.rmtree(left, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def remove_scratch(folder: Path, *names: str) -> None:
    """Remove what killed processes were writing in `folder` for files of these names, in which nobody else writes now."""
    for scratch in [file for name in names for file in folder.glob(f".{name}.[0-9]*")]:
        if scratch.suffix[1:].isdigit() and scratch.is_file():
            scratch.unlink(missing_ok=True)


def write_json(file: Path, content: dict) -> None:
    """Replace `file` by `content` as JSON, with null for what JSON has no number for."""
    write_text(file, json.dumps(_valid(content), indent=2, allow_nan=False) + "\n")


def _valid(node):
    """`node` with None for infinity and what is not a number."""
    if isinstance(node, dict):
        return {key: _valid(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_valid(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def write_text(file: Path, text: str) -> None:
    """Replace `file` by `text`."""
    with replacing(file) as scratch:
        scratch.write_text(text, encoding="utf-8")


def check_beginning(file: Path) -> None:
    """Raise UserError where a file is there and does not begin as those do that torch or safetensors write: it is none of
    theirs that is damaged, but another thing."""
    if file.suffix == ".safetensors" or not file.is_file():
        return
    with file.open("rb") as opened:
        begins = opened.read(2)
    if not begins.startswith((b"PK", b"\x80")):  # a zip; a pickle, as older torch
        raise UserError(f"checkpoint={file} is not a checkpoint; a run's are in outputs/<name>/<run>/checkpoints/")
