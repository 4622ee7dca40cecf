"""Functions of one's own that a command line names: what they need not take, and what is said where they fail."""

import sys

import pytest

from tests.test_checkpoints import written_checkpoint
from tests.test_programs import own_handlers, typed

__all__ = ["own_handlers"]  # a fixture

MINE = """from diffusion_lab.figures import DRAWN, Figure
from diffusion_lab.metrics.scoring import measures


def plain(denoiser, noise, label=None, steps=2):
    print("plain", steps)
    return noise


def failing(denoiser, noise, label=None, steps=2, **way):
    raise ValueError("no way\\nthere")


@measures(Figure("mine", "mine", depends_on=DRAWN))
def misread(scoring):
    return scoring.nothing
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


@pytest.fixture
def type_here(checkpoint, tmp_path, monkeypatch, own_handlers):
    """A program with what is typed behind it, in a folder with a module of one's own."""
    (tmp_path / "mylab.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    return lambda name, *words: typed(monkeypatch, name, f"checkpoint={checkpoint}", *words)


COMMANDS = [
    ("sample", "count=2"),
    ("edit", "edit=sdedit", "count=2"),
    ("evaluate", "metrics=standard", "metrics/figures=[kid]", "metrics.samples=4", "logger=csv"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_sampler_need_not_take_what_the_projects_own_are_given(type_here, command, capsys):
    type_here(*command, "sampler._target_=mylab.plain", "sampler.steps=3")
    assert "plain 3" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_sampler_that_fails_is_named_with_its_place_in_one_line(type_here, command, capsys):
    with pytest.raises(SystemExit) as stopped:
        type_here(*command, "sampler._target_=mylab.failing")
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "error: failing (mylab.py, line 11) fails: ValueError: no way there (HYDRA_FULL_ERROR=1 shows where)\n" in said
    assert "config file" not in said
    assert "Error executing job" not in said


def test_a_metric_that_fails_is_named_too(type_here, capsys):
    with pytest.raises(SystemExit):
        type_here(*COMMANDS[2], "+metrics.figures.mine={_target_: mylab.misread, _partial_: true}")
    assert "error: misread (mylab.py, line 16) fails: AttributeError: " in capsys.readouterr().err


def test_a_gif_of_a_sampler_that_tells_nothing_of_its_way_is_a_line(type_here, tmp_path, capsys):
    with pytest.raises(SystemExit):
        type_here("sample", "sampler._target_=mylab.plain", "gif=true", "count=2", "out=drawn")
    assert "error: gif=true shows what a sampler tells its `callback`" in capsys.readouterr().err
    assert (tmp_path / "drawn/00001.png").is_file()
