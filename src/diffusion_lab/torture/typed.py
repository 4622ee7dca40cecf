"""Commands as a user types them: each in a process of its own, forked from one that has imported the libraries already.

To import them takes longer than most of the commands do.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from wandb.sdk.data_types._private import MEDIA_TMP

from diffusion_lab.conf_path import PROJECT

LIBRARIES = (
    "lightning.pytorch",
    "torchmetrics.image",
    "torchvision",
    "wandb",
    "matplotlib.pyplot",
    "rich.progress",
    "scipy.stats",
    "hydra",
    "pandas",
)

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(list(LIBRARIES))


def type_command(folder: Path, script: str, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess:
    """What `python src/<script>.py <arguments>` typed in `folder` says, and its exit status."""
    with begin_command(folder, script, *arguments) as (process, said):
        process.join(timeout)
        assert process.exitcode is not None, f"{script} {arguments} still runs after {timeout} s"
        out, err = (file.read_text() for file in said)
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, out, err)


@contextlib.contextmanager
def begin_command(folder: Path, script: str, *arguments: str) -> Iterator[tuple[multiprocessing.Process, tuple[Path, Path]]]:
    """The running command, leader of a group of processes, and the files that its output goes to; killed at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        said = (Path(scratch, "out"), Path(scratch, "err"))
        typed = (str(folder), script, arguments, environment(), *map(str, said))
        process = forks.Process(target=_run, args=typed)
        process.start()
        try:
            yield process, said
        finally:
            kill(process)


def environment() -> dict[str, str]:
    # A W&B run of this process, in another test, tells processes started here of its service, which would outlive a kill.
    return {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}


def kill(process: multiprocessing.Process) -> None:
    """Kill the command and all that it started, by signal 9."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _run(folder: str, script: str, arguments: tuple[str, ...], environment: dict, out: str, err: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((out, err), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=False)
    sys.stderr.reconfigure(encoding="utf-8", line_buffering=True)
    file = str(PROJECT / f"src/{script}.py")
    sys.argv = [file, *arguments]
    sys.path[0:0] = [str(PROJECT / "src")]
    Path(MEDIA_TMP.name).mkdir(exist_ok=True)  # an earlier fork removed it as it ended
    try:
        runpy.run_path(file, run_name="__main__")
    finally:
        # A fork leaves without what an interpreter does at its end: joblib's processes, say, are let go by the first.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
