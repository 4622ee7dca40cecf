"""A run's files, read with care: they may be cut off, have a bit turned, or be a stranger's. Needs no torch."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from diffusion_lab.figures import DRAWN, HELD_OUT, Figure, declared

SUM = "# what follows, by its SHA-256: "  # the first line of config.yaml
LARGEST_FILE = 50_000_000  # bytes of a config or of results
PLAIN = (dict, list, str, int, float, bool, type(None))
MOST_NODES = 100_000  # of a config
LARGEST = 1e39  # number of a file: those of trainings are of 32 bits, and what is near the end of 64 overflows in a mean


def mapping_in(file: Path, parse: Callable[[str], object]) -> dict | None:
    """What `file` holds; None where it is absent, damaged, no ordinary file, or larger than any that was written."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_FILE:
            return None
        content = parse(file.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def config_in(text: str) -> object:
    """What config.yaml holds, if its first line says so: cut off, or with a bit turned, it could be another experiment's.

    Raises:
        ValueError: it is not what was written.
    """
    first, _, rest = text.partition("\n")
    if first.startswith(SUM) and first != sum_of(rest):
        raise ValueError("damaged")
    config = yaml.safe_load(text)
    _check_modest(config)
    return config


def results_in(text: str) -> object:
    """What results.json holds, if its figures, choices and seed are such.

    Raises:
        ValueError: they are not.
    """
    results = json.loads(text, parse_float=number_in, parse_int=_whole_in)
    json.dumps(results, ensure_ascii=False).encode()  # half a character is a ValueError
    try:
        figures = declared(results).values()
        dict(results.get("choices") or {})
        for key in (*(figure.key for figure in figures), *DRAWN):
            isinstance(results.get(key), int | float) and float(results[key])
    except (AttributeError, TypeError, OverflowError) as error:
        raise ValueError("damaged") from error
    counts = (results.get(key) for key in ("real_images", "samples", "network_calls", "extractor_resolution"))
    names = (results.get(key) for key in (*HELD_OUT, "feature_extractor", "protocol", "config_hash", "status", "error"))
    sound = all(isinstance(count, int | float | None) for count in counts)
    sound = sound and all(isinstance(name, str | int | float | None) for name in names)
    if not (sound and all(map(_is_sound, figures)) and isinstance(results.get("seed"), int | None)):
        raise ValueError("damaged")
    return results


def _is_sound(figure: Figure) -> bool:
    """Whether a declaration out of a file is one."""
    texts = (figure.key, figure.label, figure.unit, figure.error or "", *figure.depends_on)
    return all(isinstance(text, str) for text in texts) and type(figure.digits) is int and 0 <= figure.digits <= 12


def number_in(text: str) -> float:
    """A number out of a file.

    Raises:
        ValueError: it is none, or larger than any that was written.
    """
    number = float(text)
    if LARGEST < abs(number) < math.inf:
        raise ValueError("damaged")
    return number


def _whole_in(text: str) -> int:
    """A whole number out of a file.

    Raises:
        ValueError: it is larger than any that was written.
    """
    if abs(float(text)) > LARGEST:
        raise ValueError("damaged")
    return int(text)


def nodes_in(node: object) -> Iterator[object]:
    """`node` and all that is in it, nested or not.

    Raises:
        ValueError: that is more than any config holds, as YAML's aliases of aliases make billions of a few lines.
    """
    nodes = [node]
    for _ in range(MOST_NODES):
        node = nodes.pop()
        yield node
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if not nodes:
            return
    raise ValueError(f"it holds more than {MOST_NODES} values")


def _check_modest(node: object) -> None:
    """Raise ValueError for what is larger than any config, and for what is no plain value, as a date, a set or bytes."""
    for each in nodes_in(node):
        if not isinstance(each, PLAIN) or (isinstance(each, dict) and not all(isinstance(key, str) for key in each)):
            raise ValueError("damaged")


def is_a_runs(file: Path) -> bool:
    """Whether `Run.begin` has written a config.yaml, damaged or not: by its first words, of which a bit may be turned. An
    older version wrote none: its config names this package's own model."""
    head = _head(file)
    if len(head) == len(SUM) and sum(found != written for found, written in zip(head, SUM.encode(), strict=True)) <= 1:
        return True
    model = (mapping_in(file, config_in) or {}).get("model")
    return isinstance(model, dict) and str(model.get("_target_")).startswith("diffusion_lab.")


def is_begun(file: Path) -> bool:
    """Whether a config.yaml is empty, or cut off within its first words: nothing is lost where it is replaced."""
    head = _head(file)
    return file.is_file() and len(head) < len(SUM) and SUM.encode().startswith(head)


def _head(file: Path) -> bytes:
    """The first bytes of a file; none where it is no file."""
    if not file.is_file():
        return b""
    with file.open("rb") as content:
        return content.read(len(SUM))


def sum_of(text: str) -> str:
    return f"{SUM}{hashlib.sha256(text.encode()).hexdigest()[:16]}"
