"""Checkpoints survive full disks and a TMPDIR elsewhere."""

import resource
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import user_error_in
from diffusion_lab.experiments.runs import Run
from diffusion_lab.tasks.fitting import standard_callbacks
from diffusion_lab.training.saving import Kept, SafeCheckpoints
from tests.conftest import composed


def value_of(file: Path) -> int:
    return torch.load(file, weights_only=True)["value"]


def test_the_one_before_is_kept(tmp_path):
    for value in range(3):
        SafeCheckpoints().save_checkpoint({"value": value}, tmp_path / "last.ckpt")
    assert value_of(tmp_path / "last.ckpt") == 2
    assert value_of(tmp_path / "previous.ckpt") == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_goes_through_tmpdir(tmp_path, monkeypatch):
    """A file that is copied from another file system can be cut off: Lightning left one of 0 bytes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "another file system, not even there"))
    SafeCheckpoints().save_checkpoint({"value": 1}, str(tmp_path / "run/last.ckpt"))
    assert value_of(tmp_path / "run/last.ckpt") == 1


@pytest.fixture
def small_disk():
    """No file grows beyond 100 kB."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(tmp_path, small_disk):
    file = tmp_path / "last.ckpt"
    SafeCheckpoints().save_checkpoint({"value": 1}, file)
    with pytest.raises(OSError, match="too large") as caught:
        SafeCheckpoints().save_checkpoint({"value": 2, "weights": torch.zeros(100_000)}, file)
    assert str(user_error_in(caught.value)) == f"{file}: File too large"
    assert value_of(file) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_is_removed_for_a_checkpoint_says_so(tmp_path):
    """Lightning removes the best one of before, whose place it takes from the file that a run goes on from."""
    victim = tmp_path / "victim"
    victim.mkdir()
    settings = {"dirpath": tmp_path, "filename": "best", "monitor": "val/image_loss"}
    kept, lightnings = Kept(**settings), ModelCheckpoint(**settings)
    assert kept.state_key == lightnings.state_key  # checkpoints of before are gone on from
    kept._remove_checkpoint(None, f"local://{victim}")
    assert victim.is_dir()
    callbacks = standard_callbacks(plain(composed("train")), Run(tmp_path))
    assert [type(each) for each in callbacks if isinstance(each, ModelCheckpoint)] == [Kept, Kept]


def test_the_best_so_far_is_known_in_another_folder_too(tmp_path):
    """If it is there: Lightning forgets it, and its next epoch would take the place of a better one."""
    there, here = tmp_path / "there", tmp_path / "here"
    here.mkdir()
    settings = {"filename": "best", "monitor": "val/image_loss"}
    state = ModelCheckpoint(dirpath=there, **settings).state_dict()
    state |= {"best_model_score": torch.tensor(0.25), "best_model_path": f"{there}/best.ckpt"}
    for is_there, expected in ((False, [True, True]), (True, [True, False])):
        if is_there:
            (here / "best.ckpt").touch()
        kept = Kept(dirpath=here, **settings)
        kept.load_state_dict(state)
        one = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool))
        assert [kept.check_monitor_top_k(one, torch.tensor(value)) for value in (0.2, 0.3)] == expected
        assert kept.best_model_path == (str(here / "best.ckpt") if is_there else "")
    for score in (None, "0.25", torch.zeros(2)):
        kept = Kept(dirpath=here, **settings)
        kept.load_state_dict({**state, "best_model_score": score})
        assert kept.best_model_score is None
