"""One tiny run that many tests look at, and tiny runs of their own."""

import shutil

import pytest

from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from tests.conftest import TINY, composed

WATCHED = ("grid.every_n_epochs=1", "metrics.every_n_epochs=1")


@pytest.fixture
def run_of(tmp_path):
    """run_of("loss=mae", ...): train in a folder of its own and return its Run."""

    def trained(*overrides: str, folder: str = "run") -> Run:
        train(composed("train", *TINY, *overrides), str(tmp_path / folder), is_multirun=False)
        return Run(tmp_path / folder)

    return trained


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    """One tiny run with every part, W&B offline included, shared by the tests that only look."""
    folder = tmp_path_factory.mktemp("outputs") / "tiny" / "finished"
    train(composed("train", *TINY, *WATCHED), str(folder), is_multirun=False)
    return Run(folder)


@pytest.fixture
def finished_copy(finished, tmp_path) -> Run:
    """The same run in the folder that `run_of` trains in, for tests that go on with it."""
    return Run(shutil.copytree(finished.folder, tmp_path / "run"))
