import subprocess
import sys

import pytest
from filelock import Timeout

from diffusion_lab.experiments.runs import Run, config_hash, run_name

CONFIG = {"name": "a", "epochs": 2, "logger": {"mode": "offline"}, "data": {"root": None, "cache_dir": "x"}}


def test_hash_sees_the_experiment_and_not_how_it_is_watched():
    assert config_hash({**CONFIG, "epochs": 3}) != config_hash(CONFIG)
    assert config_hash({**CONFIG, "name": "b", "logger": {"mode": "online"}}) == config_hash(CONFIG)
    assert config_hash({**CONFIG, "data": {"root": None, "cache_dir": "elsewhere"}}) == config_hash(CONFIG)
    assert config_hash({**CONFIG, "data": {"root": "/other", "cache_dir": "x"}}) != config_hash(CONFIG)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [("", "default"), ("loss-mae_schedule-linear", "loss-mae_schedule-linear"), ("a-[1,2]_b-x/y z", "a-_1_2__b-x_y_z")],
)
def test_names_are_one_safe_folder(overrides, name):
    assert run_name(overrides) == name


def test_long_names_stay_short_and_different():
    names = {run_name("x" * 400 + end) for end in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 200 for name in names)


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
