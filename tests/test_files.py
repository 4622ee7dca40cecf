"""Files are replaced whole or not at all."""

import errno
import json
import os

import pytest

from diffusion_lab.errors import user_error_in
from diffusion_lab.files import remove_scratch, replacing, write_json, write_text


def test_a_file_is_replaced_when_all_went_well(tmp_path):
    file = tmp_path / "made/on/the way.txt"
    write_text(file, "ä")
    write_text(file, "new")
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_what_goes_wrong_meanwhile_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as scratch:
        scratch.write_text("half of the n")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_disk_that_is_full_at_the_last_moment_is_said_of_the_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_text(file, "new")
    assert str(user_error_in(caught.value)) == f"{file}: No space left on device"
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_killed_processes_were_writing_goes_and_nothing_else(tmp_path):
    kept = [tmp_path / name for name in ("last.ckpt", ".hidden", ".run.lock", "epoch.0001")]
    for file in (*kept, tmp_path / ".last.ckpt.4321"):
        file.touch()
    remove_scratch(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_json_has_null_for_what_is_no_number(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}})

    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [None, 1.5], "c": {"d": None}}
