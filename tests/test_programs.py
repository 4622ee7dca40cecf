"""What every program stands: terminals of few letters, folders that are none, ctrl-C."""

import io
import os
import signal
import sys
from collections.abc import Callable

import pytest
from hydra.core.global_hydra import GlobalHydra

from diffusion_lab import programs
from diffusion_lab.experiments.runs import Run
from tests.conftest import TINY, UNSCORED
from tests.reports.made import made_run
from tests.typed import one_line_error, type_command


@pytest.fixture(autouse=True)
def own_handlers():
    """A program's answer to SIGTERM ends with it."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def ascii_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Let standard output and error know ASCII alone; what was written to them, by calling what is returned."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    return lambda: "".join(stream.buffer.getvalue().decode("ascii") for stream in streams.values())


def typed(monkeypatch, name: str, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    GlobalHydra.instance().clear()
    getattr(programs, name)()


def test_a_whole_run_is_shown_on_a_terminal_of_few_letters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = ascii_terminal(monkeypatch)
    typed(monkeypatch, "train", *TINY, *UNSCORED, "epochs=1", "logger=csv", "name='ä'", "hydra.run.dir='ö'")
    assert Run(tmp_path / "ö").finished()
    assert "Final figures" in shown()
    assert "\\xf6" in shown()  # ö


def test_a_report_is_shown_on_a_terminal_of_few_letters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = ascii_terminal(monkeypatch)
    for seed in (0, 1):
        made_run(tmp_path, 0.1, seed=seed, settings={"name": "ä"})
    typed(monkeypatch, "report", ".")
    assert "\\xb1" in shown()  # ±
    assert "written: report.md" in shown()


@pytest.mark.parametrize("more", [(), ("-m", "seed=0,1")], ids=["one run", "a multirun"])
def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path, more):
    """Hydra makes it, before our work begins, and would print a traceback."""
    (tmp_path / "outputs").write_text("a file")
    assert "outputs/mnist_5k" in one_line_error(type_command(tmp_path, "train", *more, *TINY))
    assert "outputs/sample" in one_line_error(type_command(tmp_path, "sample", "checkpoint=x"))


@pytest.mark.parametrize("name", ["report", "plot", "sweep"])
def test_the_programs_without_hydra_stop_in_one_line_too(name, monkeypatch, capsys):
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    class Left(BaseException):
        pass

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr("diffusion_lab.commands.report.main", interrupt)
    monkeypatch.setattr("diffusion_lab.commands.plot.main", interrupt)
    monkeypatch.setattr("diffusion_lab.commands.sweep.parsed", interrupt)
    with pytest.raises(Left, match="130"):
        typed(monkeypatch, name)
    assert capsys.readouterr().err.strip().startswith("stopped by ctrl-C: ")
