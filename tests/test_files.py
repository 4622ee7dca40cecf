"""Files are replaced whole or not at all."""

import errno
import json
import os
import time

import pytest

from diffusion_lab.errors import UserError, user_error_in
from diffusion_lab.files import HOUR_S, check_ours, filling, remove_scratch, replacing, write_json, write_text


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


def test_a_folder_is_filled_at_once_or_not_at_all(tmp_path):
    folder = tmp_path / "made/folder"
    with pytest.raises(KeyboardInterrupt), filling(folder, "mark") as scratch:
        (scratch / "half").touch()
        raise KeyboardInterrupt
    assert not list(folder.parent.iterdir())
    folder.mkdir()  # as Hydra does
    with filling(folder, "mark") as scratch:
        write_text(scratch / "inner/file", "first")
        assert scratch.name == "folder"
        assert not list(folder.iterdir())
    assert (folder / "inner/file").read_text() == "first"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_lies_in_a_folder_stays_when_it_is_filled_again(tmp_path):
    write_text(tmp_path / "folder/last.ckpt", "dear")
    write_text(tmp_path / "folder/inner/file", "old")
    write_text(tmp_path / "folder/mark", "of an earlier export")
    with filling(tmp_path / "folder", "mark") as scratch:
        write_text(scratch / "inner/file", "new")
        write_text(scratch / "more/file", "more")
    found = {
        file.name: file.read_text()
        for file in (tmp_path / "folder").rglob("*")
        if file.is_file() and "more" not in str(file)
    }
    assert found == {"last.ckpt": "dear", "file": "new", "mark": "of an earlier export"}
    assert (tmp_path / "folder/more/file").read_text() == "more"
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_process_was_filling_a_folder_with_goes_later(tmp_path):
    names = {
        f".folder.{2**22 + 1}": 2 * HOUR_S,
        f".folder.{2**22 + 2}": 0,
        f".folder.{os.getppid()}": 2 * HOUR_S,
        ".folder.x": 9e9,
    }
    for name, age_s in names.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - min(age_s, 1e6),) * 2)
    with filling(tmp_path / "folder", "mark") as scratch:
        (scratch / "file").touch()
    assert {each.name for each in tmp_path.iterdir()} == {"folder", *list(names)[1:]}


def test_what_killed_processes_were_writing_goes_and_nothing_else(tmp_path):
    names = ("last.ckpt", ".hidden", ".run.lock", "epoch.0001", ".notes.2024", ".budget.csv.2025", ".notes.md.1")
    kept = [tmp_path / name for name in names]
    for file in (*kept, tmp_path / ".last.ckpt.4321"):
        file.touch()
    remove_scratch(tmp_path, "*.ckpt", "config.yaml")
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_json_has_null_for_what_is_no_number(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}})

    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_a_persons_files_are_not_replaced_and_ours_are(tmp_path):
    (tmp_path / "grid.png").write_text("mine")
    with pytest.raises(UserError, match=r"grid.png was not made here, and would be replaced: give another folder"):
        check_ours(tmp_path, ["a.png", "grid.png"], "sample.json")
    with pytest.raises(UserError, match="was not made here"), filling(tmp_path, "sample.json") as scratch:
        (scratch / "grid.png").write_text("new")
    assert (tmp_path / "grid.png").read_text() == "mine"
    check_ours(tmp_path, ["other.png"], "sample.json")
    (tmp_path / "sample.json").write_text("{}")
    with filling(tmp_path, "sample.json") as scratch:
        (scratch / "grid.png").write_text("new")
    assert (tmp_path / "grid.png").read_text() == "new"
