import pytest
from rich.console import Console

from diffusion_lab.experiments.multirun import print_table
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


def test_table_ranks_finished_runs_and_names_the_failed_ones(tmp_path):
    runs = {}
    for name, figure in (("mse", 0.3), ("mae", 0.1)):
        run = Run(tmp_path / name)
        figures = dict.fromkeys(("kid", "kid_std", "fid", "noise_loss", "image_loss", "train_seconds"), figure)
        run.finish({**figures, "feature_extractor": "some_extractor", "extractor_resolution": 128})
        runs[run] = {"epochs": "1", "loss": name}
    broken = Run(tmp_path / "broken")
    broken.fail("it\nbroke", CONFIG)
    runs[broken] = {"epochs": "1", "loss": "odd"}
    console = Console(record=True, width=120)
    print_table(runs, "kid", console)
    text = console.export_text()
    assert text.index("mae") < text.index("mse") < text.index("odd")
    assert "broken: it broke" in text
    assert "some_extractor at 128 px" in text
    assert "epochs" not in text  # the same in every run
