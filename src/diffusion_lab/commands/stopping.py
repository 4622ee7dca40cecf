"""Being stopped from outside: ctrl-C and SIGTERM end a command with one line, and take the processes that it began along."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from diffusion_lab.errors import Terminated
from diffusion_lab.files import is_running

INTERRUPTED, TERMINATED = 130, 143  # exit statuses, as of a shell
GRACE_S = 5  # for a job to leave its folder in order when its multirun is gone
MAIN = "DIFFUSION_LAB_MAIN"  # the process id of a multirun, which its jobs in other processes do not outlive


_last: list[Callable[[], None]] = []  # acts of this process


@contextlib.contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is done in here with a line that says `advice`, and exit status 130 or 143."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except BaseException as error:
        status = _status(error)
        if status is None:
            raise
        for act in _last:
            act()
        word = "SIGTERM" if status == TERMINATED else "ctrl-C"
        print(f"\nstopped by {word}: {advice}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(status)  # libraries have more to say at an orderly exit, and wait for processes that are gone


def call_at_end(act: Callable[[], None]) -> None:
    """Call `act` when this process ends, or is stopped."""
    _last.append(act)
    atexit.register(act)


def _terminate(number: int, frame) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated(TERMINATED)


def _status(error: BaseException | None) -> int | None:
    """The exit status that `error` stands for if ctrl-C or SIGTERM caused it: Lightning makes a SystemExit of the first."""
    while error is not None:
        if isinstance(error, Terminated):
            return TERMINATED
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        error = error.__cause__ or error.__context__
    return None


def begin_multirun() -> None:
    """Tell jobs in other processes of this machine which one they belong to."""
    os.environ[MAIN] = str(os.getpid())
    quiet = "ignore:resource_tracker"  # joblib's: it cleans up what a stopped process has left, and need not say so
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), quiet]))


def follow_multirun() -> None:
    """In a process that a multirun began: leave ctrl-C to the multirun, and end with it, at once where it is gone."""
    main = os.environ.get(MAIN)
    if main is None or threading.current_thread() is not threading.main_thread():
        return
    if main != str(os.getppid()) and is_running(int(main)):  # this is the multirun, or began in another way
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    if not any(thread.name == MAIN for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(int(main),), name=MAIN, daemon=True).start()


def follow_parent() -> None:
    """In a process that torchrun or srun began: end with it, also where signal 9 has ended it."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)  # a kill at any moment loses nothing
