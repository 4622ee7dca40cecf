"""One input shown to the program, in this process, and what became of it."""

import contextlib
import io
import os
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusion_lab.errors import user_error_in

CANARY = "TORTURE_RAN_CODE"  # an environment variable that names a file which hostile input tries to make


@dataclass(frozen=True)
class Outcome:
    """What became of an input: "worked", "one line" (answered as a user's mistake), or a shortfall: "traceback", "hang",
    "ran code".

    Attributes:
        told: the line, or where the traceback ends.
    """

    name: str
    given: str
    told: str = ""

    @property
    def is_shortfall(self) -> bool:
        return self.name not in ("worked", "one line")


def tried(given: str, act: Callable[[Path], None], seconds: int = 30) -> Outcome:
    """`act(folder)` in an empty folder, its output caught, for so many seconds at most."""
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch, _watched(seconds):
        canary, inner = Path(scratch, "canary"), Path(scratch, "a/b/c")
        os.environ[CANARY] = str(canary)
        inner.mkdir(parents=True)
        with contextlib.chdir(inner):  # what writes to ../.. stays within
            name, told = _outcome(act, inner)
        return Outcome("ran code" if canary.exists() else name, given, told)


def _outcome(act: Callable[[Path], None], folder: Path) -> tuple[str, str]:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            act(folder)
    except TooLong:
        return "hang", ""
    except Exception as error:
        mistake = user_error_in(error)
        if mistake and "\n" not in str(mistake).strip():
            return "one line", str(mistake)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {str(error)[:120]} ({Path(where.filename).name}:{where.lineno})"
    return "worked", ""


class TooLong(BaseException):
    """An input took longer than it may."""


@contextlib.contextmanager
def _watched(seconds: int) -> Iterator[None]:
    def ring(number: int, frame) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
