"""Odd input of every kind: it works, or it is answered in one line, and runs nothing. The same each time, by a seed."""

import os
from pathlib import Path
from random import Random

import pytest

from diffusion_lab.torture import checkpoints, command_lines, folders, kills, sweep_files
from diffusion_lab.torture.run import torture
from diffusion_lab.torture.trial import CANARY, tried

TRIES = {command_lines: 15, folders: 60, sweep_files: 60, checkpoints: 12}


@pytest.mark.ci
@pytest.mark.parametrize("inputs", TRIES, ids=lambda module: module.__name__.split(".")[-1])
def test_nothing_falls_short(inputs):
    random = Random(0)
    outcomes = [inputs.try_one(random) for _ in range(TRIES[inputs])]
    assert not [outcome for outcome in outcomes if outcome.is_shortfall]
    assert {outcome.name for outcome in outcomes} == {"worked", "one line"}


def test_what_falls_short_is_noticed():
    def wrong(folder):
        raise TypeError("a defect")

    def endless(folder):
        while True:
            pass

    def hostile(folder):
        Path(os.environ[CANARY]).touch()

    assert tried("", wrong).name == "traceback"
    assert tried("", endless, seconds=1).name == "hang"
    assert tried("", hostile).name == "ran code"
    assert all(tried("", act, seconds=1).is_shortfall for act in (wrong, endless, hostile))


@pytest.mark.slow
@pytest.mark.parametrize("what", kills.COMMANDS)
def test_a_killed_command_ends_as_an_unbroken_one(what, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    count, outcome = kills.try_one(Random(0), tmp_path / "killed", *kills.unbroken(tmp_path / "whole"), what)
    assert count > 0
    assert not outcome.is_shortfall, outcome


@pytest.mark.slow
def test_torture_of_some_minutes(capsys):
    assert torture(minutes=10, seed=1), capsys.readouterr().out
