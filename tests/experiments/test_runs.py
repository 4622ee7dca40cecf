import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run

CONFIG = {"name": "a", "epochs": 2, "logger": {"mode": "offline"}, "data": {"root": None, "cache_dir": "x"}}


def test_another_configuration_is_set_aside_not_mixed_in(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(CONFIG)
    run.finish({"kid": 1.0})
    run.begin(CONFIG)
    assert run.finished()  # the same experiment goes on in its folder
    run.begin({**CONFIG, "epochs": 9})
    assert not run.finished()
    assert run.config()["epochs"] == 9
    assert Run(tmp_path / f"run~{config_hash(CONFIG)}").results()["kid"] == 1.0


def test_a_killed_process_holds_no_lock(tmp_path):
    run = Run(tmp_path)
    code = "from pathlib import Path; from diffusion_lab.experiments.runs import Run; "
    code += f"lock = Run(Path({str(tmp_path)!r})).lock(); lock.acquire(timeout=0); print('held', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Timeout):
        run.lock().acquire(timeout=0)
    process.kill()
    process.wait()
    with run.lock().acquire(timeout=5):
        pass


def test_curves_and_epochs_are_read_back(tmp_path):
    run = Run(tmp_path)
    assert run.curves() == []
    run.metrics_file.write_text(
        "step,train/loss_step,val/image_loss,train_seconds\n19,0.5,,\n39,0.4,,\n39,,0.3,2\n59,0.4,,\n79,,0.2,4\n"
    )
    assert run.epochs_done() == 2
    assert [row["val/image_loss"] for row in run.curves() if "val/image_loss" in row] == [0.3, 0.2]


OTHER = {**CONFIG, "epochs": 9}


def set_aside(tmp_path, finished: bool) -> Run:
    """The place of a run of CONFIG that is interrupted or finished, and in whose place OTHER is now."""
    run = Run(tmp_path / "run")
    run.begin(CONFIG)
    run.checkpoints.mkdir()
    run.last_checkpoint.write_text("of CONFIG")
    if finished:
        run.finish({"kid": 1.0, "config_hash": config_hash(CONFIG)})
    run.begin(OTHER)
    assert not run.last_checkpoint.exists()
    return run


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
@pytest.mark.parametrize("place", ["taken", "removed", "removed, and an empty folder made by Hydra"])
def test_what_was_set_aside_is_found_again(tmp_path, finished, place):
    run = set_aside(tmp_path, finished)
    if place != "taken":
        run.folder.rename(tmp_path / "elsewhere")
    if place.endswith("Hydra"):
        run.folder.mkdir()
    assert run.of(CONFIG).finished_as(CONFIG) == finished
    run.begin(CONFIG)
    assert run.last_checkpoint.read_text() == "of CONFIG"
    assert run.finished_as(CONFIG) == finished
    assert not (tmp_path / f"run~{config_hash(CONFIG)}").exists()
    assert Run(tmp_path / f"run~{config_hash(OTHER)}").config() == (OTHER if place == "taken" else {})


def spoiled(content: bytes, count: int):
    """`content` cut anywhere, and with a bit turned here and there."""
    for end in range(0, len(content), max(1, len(content) // count)):
        yield content[:end]
    for place in random.Random(0).sample(range(len(content)), min(count, len(content))):
        yield content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def test_a_damaged_config_is_never_another_experiments(tmp_path):
    """Cut off between two lines it is sound YAML: an interrupted run would be set aside as another configuration's."""
    run = Run(tmp_path / "run")
    run.begin(CONFIG)
    whole = run.config_file.read_bytes()
    for content in spoiled(whole, 20):
        run.config_file.write_bytes(content)
        found = run.config()
        assert found in ({}, CONFIG) or content.startswith(b"# what") is False
        if not found:
            assert run.damage().keys() == {run.config_file}
            run.begin(CONFIG)  # goes on in its place, and the file is made again
            assert run.config_file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_damaged_results_and_curves_are_a_line_that_names_the_file(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(CONFIG)
    figures = {"kid": {"label": "KID", "digits": 4}}
    run.finish({"kid": 0.1, "config_hash": config_hash(CONFIG), "figures": figures, "choices": {"loss": "mae"}})
    run.metrics_file.write_text("step,train/loss_step,val/image_loss,train_seconds\n19,0.5,,\n39,,0.3,2\n")
    assert run.damage() == {}
    for file in (run.results_file, run.metrics_file):
        whole = file.read_bytes()
        for content in (b"", b"\x00\xff", b"this is something else", b"[1]", *spoiled(whole, 20)):
            file.write_bytes(content)
            assert all("\n" not in said and said.startswith(f"{file} is damaged: ") for said in run.damage().values())
            assert run.finished_as(CONFIG) in (False, True)
            assert run.epochs_done() in (0, 1)
        file.write_bytes(whole[:-7])
        assert file == run.metrics_file or run.damage()  # where a kill can cut off a last line
        file.unlink()
        file.mkdir()
        assert not (file == run.results_file and run.finished())
        file.rmdir()
        file.write_bytes(whole)


@pytest.mark.parametrize("file", ["config.yaml", "results.json", "metrics.csv", "checkpoints/last.ckpt", "samples/me.png"])
@pytest.mark.parametrize("text", ["seed: 0\nmodel: {}\n", '{"kid": 1}', "my own words"])
def test_a_persons_own_folder_is_refused_and_left_as_it_is(tmp_path, file, text):
    theirs = tmp_path / "mine" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text(text)
    (tmp_path / "mine" / ".notes.2024").write_text("notes")
    with pytest.raises(UserError, match=r"is not of a run that was made here, and would be replaced: give another folder"):
        Run(tmp_path / "mine").begin(CONFIG)
    assert theirs.read_text() == text
    kept = {path.name for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert kept == {Path(file).name, ".notes.2024"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_run_takes_a_folder_with_notes_in_it(tmp_path):
    (tmp_path / "notes.txt").write_text("what I want to know")
    (tmp_path / ".notes.2024").write_text("more")
    Run(tmp_path).begin(CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", ".notes.2024", "config.yaml"}


@pytest.mark.parametrize("begun", ["", "# w", "#"])
@pytest.mark.parametrize("file", ["metrics.csv", "checkpoints/best.ckpt", "samples/final.png", "wandb/id"])
def test_an_empty_config_makes_no_run_of_a_persons_folder(tmp_path, begun, file):
    (tmp_path / "config.yaml").write_text(begun)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    with pytest.raises(UserError, match="is not of a run that was made here"):
        Run(tmp_path).begin(CONFIG)
    assert (tmp_path / file).read_text() == "mine"


def test_hidden_files_of_a_person_stay(tmp_path):
    mine = [tmp_path / ".notes.md.1", tmp_path / ".budget.csv.2025", tmp_path / "samples/.me.png.7"]
    for file in mine[:2]:
        file.write_text("mine")
    run = Run(tmp_path)
    run.begin(CONFIG)
    run.begin(CONFIG)
    assert all(file.read_text() == "mine" for file in mine[:2])


def test_a_run_of_an_earlier_version_is_gone_on_with_in_its_place(tmp_path):
    run = Run(tmp_path / "run")
    config = {**CONFIG, "model": {"_target_": "diffusion_lab.denoiser.NetworkDenoiser"}}
    run.begin(config)
    run.checkpoints.mkdir()
    run.last_checkpoint.write_text("weights")
    run.config_file.write_text(run.config_file.read_text().partition("\n")[2])  # which had no first line
    run.begin(config)
    assert run.last_checkpoint.read_text() == "weights"


@pytest.mark.parametrize("place", ["folder", "link", "here"])
def test_what_else_is_in_its_folder_stays_when_a_run_is_set_aside_and_taken_back(tmp_path, place, monkeypatch):
    (tmp_path / "real").mkdir()
    if place == "link":
        (tmp_path / "link").symlink_to(tmp_path / "real")
    if place == "here":
        monkeypatch.chdir(tmp_path / "real")
    run = Run(tmp_path / ("link" if place == "link" else "real"))
    (run.folder / "thesis.tex").write_text("mine")
    run.begin(CONFIG)
    run.checkpoints.mkdir()
    run.last_checkpoint.write_text("of CONFIG")
    run.begin(OTHER)
    assert not run.checkpoints.exists()
    aside = Run(run.folder.with_name(f"{run.folder.name}~{config_hash(CONFIG)}"))
    assert (aside.config(), aside.last_checkpoint.read_text()) == (CONFIG, "of CONFIG")
    run.begin(CONFIG)
    assert run.last_checkpoint.read_text() == "of CONFIG"
    assert (run.folder / "thesis.tex").read_text() == "mine"
    assert run.folder.is_symlink() == (place == "link")
    assert not aside.folder.exists()


def test_a_move_that_was_cut_off_goes_on(tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    run.begin(CONFIG)
    for folder in (run.checkpoints, run.samples):
        folder.mkdir()
        (folder / "file").write_text("of CONFIG")
    move, moved = shutil.move, []

    def cut_off(source, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(move(source, target))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.move", cut_off)
        run.begin(OTHER)
    assert run.config() == CONFIG
    run.begin(OTHER)
    run.begin(CONFIG)
    assert all((folder / "file").read_text() == "of CONFIG" for folder in (run.checkpoints, run.samples))


def test_no_pipe_and_no_endless_file_is_read(tmp_path):
    for name in ("config.yaml", "results.json", "metrics.csv"):
        run = Run(tmp_path / name)
        run.folder.mkdir()
        os.mkfifo(run.folder / name)
        assert (run.config(), run.results(), run.sound_curves()) == ({}, {}, [])
    huge = Run(tmp_path / "huge")
    huge.folder.mkdir()
    for file in (huge.config_file, huge.results_file, huge.metrics_file):
        with file.open("wb") as sparse:
            sparse.truncate(40 * 10**9)
    assert (huge.config(), huge.results(), huge.sound_curves()) == ({}, {}, [])
    huge.config_file.unlink()
    huge.config_file.symlink_to("/dev/zero")
    assert huge.config() == {}


@pytest.mark.parametrize("text", ["a: 2024-01-01", "a: !!set {x, y}", "a: !!binary aGk=", "1: 2", "a: {? [1] : 2}"])
def test_what_is_no_plain_value_is_no_config(tmp_path, text):
    Run(tmp_path).config_file.write_text(text)
    assert Run(tmp_path).config() == {}


@pytest.mark.parametrize(
    "text", ["step\nx\n", "a,b\n1,2\n", "step,a\ninf,1\n", "step,a\n1,2,3\n", "step\n\x00\n", "step,a\n1,-1e308\n"]
)
def test_curves_that_are_none_say_what_to_do(tmp_path, text):
    run = Run(tmp_path)
    run.metrics_file.write_text(text)
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: mend it, or delete it"):
        run.curves()
    assert run.sound_curves() == []


def test_what_never_began_leaves_nothing_but_the_folder_that_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "here/outputs/name/run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Run(tmp_path / "here/outputs/name/run").remove_if_empty()
    assert list((tmp_path / "here").iterdir()) == []
    (tmp_path / "here/outputs/name").mkdir(parents=True)
    Run(tmp_path / "here/outputs/name/never made").remove_if_empty()
    assert list((tmp_path / "here").iterdir()) == []
    (tmp_path / "here/run").mkdir()
    Run(tmp_path / "here/run").remove_if_empty()
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]  # that is not ours to remove
    assert list((tmp_path / "here").iterdir()) == []


def test_a_link_and_what_is_above_stay(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    Run(tmp_path / "link").remove_if_empty()
    assert (tmp_path / "link").is_dir()
    (tmp_path / "name/run").mkdir(parents=True)
    Run(tmp_path / "name/run").remove_if_empty(above=0)
    assert list((tmp_path / "name").iterdir()) == []


def test_results_are_json_for_everyone(tmp_path):
    run = Run(tmp_path)
    run.finish({"kid": float("nan"), "accuracy_by_time": {"0.5": float("inf")}})
    assert json.loads(run.results_file.read_text(), parse_constant=pytest.fail)["kid"] is None


def test_what_a_killed_process_was_writing_goes(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(CONFIG)
    run.checkpoints.mkdir()
    (run.checkpoints / ".last.ckpt.123").touch()
    (run.folder / ".results.json.123").touch()
    run.begin(CONFIG)
    assert [path.name for path in run.folder.rglob(".*")] == []
