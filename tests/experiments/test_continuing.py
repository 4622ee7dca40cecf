"""Which training could be gone on from; needs no torch."""

import copy
from pathlib import Path

import pytest

from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.continuing import check_same_training, checkpoint_of, differences, shorter_one
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from tests.conftest import composed


def config(*overrides: str) -> dict:
    return {**plain(composed("train", *overrides)), "contents": {"data": "the images"}}


BASE = config("epochs=2")


def finished(folder: Path, config: dict, epochs: int) -> Run:
    run = Run(folder)
    run.begin(config)
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    run.finish({"epochs": epochs, "steps": 5 * epochs, "config_hash": config_hash(config)})
    return run


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (["epochs=9", "sampler=ddim", "metrics.samples=7", "learning_rate=constant", "name=other", "logger=csv"], []),
        (["optimizer.lr=0.5"], ["optimizer.lr=0.002 there, 0.5 here"]),
        (["batch_size=16", "ema=null"], ["ema._target_=", "batch_size=32 there, 16 here"]),
        (["loss=mae"], ["task.criterion.loss._target_=torch.nn.MSELoss"]),
    ],
)
def test_what_shapes_a_training_has_to_stay(other, found):
    said = differences(BASE, config(*other))
    assert all(any(line.startswith(start) for line in said) for start in found), said
    assert bool(said) == bool(found)


def test_other_images_are_another_training():
    with pytest.raises(UserError, match=r"contents\.data=the images there, others here.*init_from=FILE"):
        check_same_training(BASE, {**BASE, "contents": {"data": "others"}}, Path("x.ckpt"))


def test_settings_that_came_later_are_no_difference():
    older = copy.deepcopy(BASE)
    for key in ("steps", "minutes", "accumulate", "resume_from"):
        older.pop(key, None)
    assert not differences(older, BASE)
    assert config_hash(older) == config_hash(BASE)


def test_a_shorter_run_is_found_under_its_name_less_the_budget(tmp_path):
    finished(tmp_path / "epochs-2_loss-mse", BASE, 2)
    further = finished(tmp_path / "epochs-4_loss-mse", {**BASE, "epochs": 4}, 4)
    finished(tmp_path / "epochs-5_loss-mae", {**BASE, "epochs": 5}, 5)  # another name
    finished(tmp_path / "epochs-6_loss-mse", {**config("epochs=6", "optimizer.lr=1"), "epochs": 6}, 6)  # another training
    finished(tmp_path / "epochs-9_loss-mse", {**BASE, "epochs": 9}, 9)  # went further
    new = Run(tmp_path / "epochs-8_loss-mse")
    assert shorter_one(new, {**BASE, "epochs": 8}) == further
    assert shorter_one(new, {**BASE, "epochs": 8, "resume_from": "x"}) is None
    new.begin({**BASE, "epochs": 8})
    new.checkpoints.mkdir()
    new.last_checkpoint.touch()
    assert shorter_one(new, {**BASE, "epochs": 8}) is None  # it has begun


def test_one_in_the_same_place_is_found_before_it_is_set_aside(tmp_path):
    run = finished(tmp_path / "run", BASE, 2)
    assert shorter_one(run, {**BASE, "epochs": 3}) == run
    run.begin({**BASE, "epochs": 3})
    aside = shorter_one(run, {**BASE, "epochs": 4})
    assert aside.folder == tmp_path / f"run~{config_hash(BASE)}"


def test_a_folder_means_its_last_checkpoint(tmp_path):
    run = finished(tmp_path / "run", BASE, 2)
    assert checkpoint_of(run.folder) == run.last_checkpoint == checkpoint_of(run.last_checkpoint)
    with pytest.raises(UserError, match=r"resume_from=\S+ is neither a checkpoint nor a run's folder with one$"):
        checkpoint_of("outputs/nothing")
    with pytest.raises(UserError, match=r"nor a run's folder with one \(looked for checkpoints/last.ckpt"):
        checkpoint_of(tmp_path)
