"""Stopped from outside, in every phase: one line, the right exit status, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from diffusion_lab.commands import stopping
from diffusion_lab.commands.stopping import stoppable
from diffusion_lab.commands.train import train
from diffusion_lab.data import cache
from diffusion_lab.experiments import pictures
from diffusion_lab.metrics import scoring
from diffusion_lab.training.denoiser import DenoiserTraining
from tests.conftest import TINY, composed
from tests.typed import begin_command

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
WORD = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "ctrl-C"}
PHASES = {  # where the signal comes
    "decoding": (cache, "fitted"),
    "training": (DenoiserTraining, "training_step"),
    "an epoch's grid": (pictures, "save_grid"),
    "scoring": (scoring, "draw"),
    "drawing": (pictures, "save_forward_process"),
}


class Left(BaseException):
    """What stands for os._exit, which would end the tests."""


@pytest.fixture(autouse=True)
def leaves(monkeypatch):
    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)
    handlers = {number: signal.getsignal(number) for number in STATUS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background has not
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def stopped(work: Callable[[], None], capsys) -> tuple[int, str]:
    """The exit status of `work`, and what was said."""
    with pytest.raises(Left) as left, stoppable("type it again"):
        work()
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(said) == 1, said
    return left.value.args[0], said[0]


@pytest.mark.parametrize(
    ("phase", "number"),
    [*((phase, signal.SIGTERM) for phase in PHASES), *((phase, signal.SIGINT) for phase in ("training", "scoring"))],
)
def test_every_phase_ends_in_one_line(tmp_path, monkeypatch, capsys, phase, number):
    owner, name = PHASES[phase]
    monkeypatch.setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), number))
    cfg = composed(
        "train",
        *TINY,
        "epochs=1",
        "grid.every_n_epochs=1",
        "data.max_images=64",
        "network.widths=[8,8]",
        "logger=csv",
        f"data.cache_dir={tmp_path / 'cache'}",
    )
    run = tmp_path / "outputs/name/run"
    status, said = stopped(lambda: train(cfg, str(run), is_multirun=False), capsys)
    assert (status, said) == (STATUS[number], f"stopped by {WORD[number]}: type it again")
    left = [path.name for path in tmp_path.rglob(".*") if not path.name.startswith(".decoding-")]  # which is gone on with
    assert left == []  # no lock, nothing half written
    assert (run / "results.json").exists() is False
    assert run.exists() == (phase != "decoding")


def test_a_second_signal_does_not_disturb_the_tidying(capsys):
    tidied = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidied.append(True)

    assert stopped(work, capsys)[0] == 143
    assert tidied


def test_a_stop_is_found_behind_other_errors(capsys):
    """Lightning makes a SystemExit of ctrl-C, and close() of a logger may fail meanwhile."""

    def work() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1) from None

    assert stopped(work, capsys)[0] == 130


def test_other_ends_are_left_alone():
    for error in (SystemExit(1), ValueError("a defect")):
        with pytest.raises(type(error)), stoppable("type it again"):
            raise error


def test_what_a_stopped_process_leaves_is_tidied(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stopping, "_last", [])
    (tmp_path / "scratch").touch()
    remove = (tmp_path / "scratch").unlink
    stopping.call_at_end(remove)
    stopping.atexit.unregister(remove)  # it is done below

    def work() -> None:
        raise KeyboardInterrupt

    stopped(work, capsys)
    assert not (tmp_path / "scratch").exists()


JOB = """
import os, time
from pathlib import Path
from diffusion_lab.commands.stopping import follow_multirun
while not Path("go").exists():
    time.sleep(0.02)
follow_multirun()
lock = Path("lock")
lock.touch()
try:
    time.sleep(60)
finally:
    lock.unlink()
"""


@pytest.fixture
def multirun(tmp_path):
    """A multirun, and its job in a process of its own, which begins when there is a file `go`."""
    (tmp_path / "job.py").write_text(JOB)
    code = "import subprocess, sys; from diffusion_lab.commands.stopping import begin_multirun; begin_multirun(); "
    code += "job = subprocess.Popen([sys.executable, 'job.py']); print(job.pid, flush=True); job.wait()"
    multirun = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    job = psutil.Process(int(multirun.stdout.readline()))
    yield multirun, job
    multirun.kill()
    if job.is_running():
        job.kill()


def has_ended(job: psutil.Process) -> bool:
    return not job.is_running() or job.status() == psutil.STATUS_ZOMBIE


def test_a_job_ends_with_its_multirun_and_tidies(multirun, tmp_path):
    """As joblib's worker of a killed multirun: it stayed, with 1.5 GB."""
    multirun, job = multirun
    (tmp_path / "go").touch()
    wait_until((tmp_path / "lock").exists)
    job.send_signal(signal.SIGINT)  # ctrl-C on the terminal reaches it too, and is the multirun's
    time.sleep(0.1)
    assert job.is_running()
    multirun.kill()
    multirun.wait()
    wait_until(lambda: has_ended(job))
    assert not (tmp_path / "lock").exists()


def test_a_job_whose_multirun_was_gone_before_it_began_ends_too(multirun, tmp_path):
    """It did its work to the end, and stayed."""
    multirun, job = multirun
    multirun.kill()
    multirun.wait()
    (tmp_path / "go").touch()
    wait_until(lambda: has_ended(job))
    assert not (tmp_path / "lock").exists()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("joblib", [False, True], ids=["one after the other", "side by side"])
def test_a_multirun_takes_its_jobs_along(tmp_path, number, joblib):
    more = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2") if joblib else ()
    arguments = ("-m", *TINY, "epochs=500", "logger=csv", "seed=0,1", *more)
    with begin_command(tmp_path, "train", *arguments) as (process, said):

        def all_train() -> bool:
            assert process.exitcode is None, said[1].read_text()
            return len(list(tmp_path.rglob("last.ckpt"))) > joblib

        wait_until(all_train, seconds=300)
        os.kill(process.pid, number)
        process.join(60)
        wait_until(lambda: not running_in(process.pid), seconds=60)
        text = said[1].read_text()
    assert process.exitcode == STATUS.get(number, -number)
    assert "Traceback" not in text
    if number in STATUS:
        assert [line for line in text.splitlines() if line] == [f"stopped by {WORD[number]}: {goes_on()}"]
    assert joblib or number == signal.SIGKILL or list(tmp_path.rglob(".*")) == []
    assert number == signal.SIGKILL or list(tmp_path.rglob("*.lock")) == []


def goes_on() -> str:
    from diffusion_lab.programs import GOES_ON

    return GOES_ON


def running_in(group: int) -> list[int]:
    """The processes of a group that are no zombies."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found
