"""What every program stands: terminals of few letters, folders that are none, ctrl-C."""

import io
import logging
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
    """A program's answer to SIGTERM ends with it, and so do its lines on what was the terminal."""
    handler, logs = signal.getsignal(signal.SIGTERM), logging.root.handlers[:]
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.root.handlers[:] = logs


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


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("train", ["--epochs=1"], "--epochs=1 is no option: settings have no dashes, epochs=1; --help shows"),
        ("sample", ["count=3", "--label", "7"], "--label is no option: settings have no dashes, label=VALUE; --help shows"),
        ("train", ["--config-dir"], "argument --config-dir/-cd: expected one argument; --help shows"),
        *((name, ["x", "--epochs=1"], "--epochs=1 is no option: ") for name in ("report", "plot", "sweep", "torture")),
    ],
)
def test_an_option_that_is_none_is_one_line(monkeypatch, capsys, name, words, said):
    with pytest.raises(SystemExit) as stopped:
        typed(monkeypatch, name, *words)
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_a_folder_of_choices_that_is_none_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("DIFFUSION_LAB_CONF", f"{tmp_path}{os.pathsep}nowhere/conf")
    for name, word in (("train", "schedule=half"), ("plot", "schedules")):
        with pytest.raises(SystemExit) as stopped:
            typed(monkeypatch, name, word)
        assert stopped.value.code == 1
        assert capsys.readouterr().err.startswith("error: DIFFUSION_LAB_CONF=nowhere/conf is not a folder: ")


def test_a_package_beside_the_folder_of_config_dir_is_found(tmp_path):
    (tmp_path / "mine/conf/schedule").mkdir(parents=True)
    (tmp_path / "mine/conf/schedule/half.yaml").write_text("_target_: parts.Half\n")
    (tmp_path / "mine/parts.py").write_text("from diffusion_lab.process.schedules import Cosine as Half\n")
    words = (*TINY, *UNSCORED, "epochs=1", "logger=csv", "out=run", "schedule=half")
    result = type_command(tmp_path, "train", "--config-dir", "mine/conf", *words)
    assert result.returncode == 0, result.stderr
    after = [line for line in result.stdout.splitlines() if "--config-dir mine/conf " in line]
    assert len(after) == 3
    assert after[0].endswith('checkpoint=run/checkpoints/last.ckpt count=36 seed=1 "trusted=[diffusion_lab,parts]"')
