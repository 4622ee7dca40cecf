"""What an interrupted run goes on from, when files of it are damaged."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.tasks import going_on
from diffusion_lab.tasks.going_on import resumed_from, shorter_training
from tests.commands.test_edit import written_checkpoint

STEPS = {"last.ckpt": 30, "previous.ckpt": 20, "best.ckpt": 10}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run's checkpoints, told apart by their steps."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    folder.mkdir()
    state = torch.load(written_checkpoint(folder / "last.ckpt"), weights_only=True)
    for name, step in STEPS.items():  # an older version's best.ckpt holds what the others do
        torch.save({**state, "global_step": step, "loops": {}, "optimizer_states": [{}]}, folder / name)
    return folder


@pytest.fixture
def run(whole, tmp_path) -> Run:
    shutil.copytree(whole, tmp_path / "run/checkpoints")
    return Run(tmp_path / "run")


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    file.unlink()
    if how == "emptied":
        file.touch()
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "a bit turned":
        place = len(content) // 2  # in the weights
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif how == "text":
        file.write_text("this is something else")


@pytest.mark.parametrize("how", ["emptied", "cut", "a bit turned", "text", "removed"])
def test_the_furthest_sound_checkpoint_is_gone_on_from(run, how, caplog):
    config = load_checkpoint(run.last_checkpoint).config
    expected = [*STEPS.values(), None]
    for name, step, next_step in zip(STEPS, expected, expected[1:], strict=False):
        found = resumed_from(run, config)
        assert found.state["global_step"] == step
        assert load_checkpoint(run.last_checkpoint).state["global_step"] == step  # in its place again
        for spoiled in {name, "last.ckpt"}:
            damage(run.checkpoints / spoiled, how)
        found = resumed_from(run, config)
        assert (found and found.state["global_step"]) == next_step
        if how != "removed":
            assert f"passed over: checkpoint={run.checkpoints / name}" in caplog.text
    if how != "removed":
        assert "no checkpoint of run can be read: training begins anew" in caplog.text
    assert [path.name for path in run.checkpoints.glob(".*")] == []


def test_a_best_checkpoint_without_an_optimizer_is_not_gone_on_from(run):
    file = run.checkpoints / "best.ckpt"
    state = torch.load(file, weights_only=True)
    del state["optimizer_states"]
    torch.save(state, file)
    run.last_checkpoint.unlink()
    (run.checkpoints / "previous.ckpt").unlink()
    assert resumed_from(run, state["config"]) is None


def test_a_checkpoint_of_another_config_is_not_gone_on_from(run):
    config = load_checkpoint(run.last_checkpoint).config
    with pytest.raises(UserError, match="is of another config than this run's: move"):
        resumed_from(run, {**config, "epochs": 99})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks", {"Timer": 3}),
        ("callbacks", [1, 2]),
        ("epoch", "a"),
        ("epoch", -9),
        ("global_step", -5),
        ("optimizer_states", []),
        ("callbacks", {"Timer": {"time_elapsed": {"train": "z"}}}),
        ("loops", 3),
    ],
)
def test_a_strangers_training_that_cannot_go_on_is_one_line(tmp_path, monkeypatch, key, value):
    state = {
        "callbacks": {"Timer": {"time_elapsed": {"train": 60.0}}},
        "epoch": 1,
        "global_step": 5,
        "optimizer_states": [{}],
        "loops": {"fit_loop": {"epoch_loop.batch_progress": {"is_last_batch": True}}},
    }
    config = {"resume_from": str(tmp_path / "x.ckpt"), "trusted": [], "epochs": 9}
    monkeypatch.setattr(going_on, "check_same_training", lambda *_: None)
    for kept, damaged in ((state, False), ({**state, key: value}, True)):
        checkpoint = SimpleNamespace(state=kept, config={}, path=Path("x.ckpt"))
        monkeypatch.setattr(going_on, "load_checkpoint", lambda *_, found=checkpoint: found)
        if damaged:
            with pytest.raises(UserError, match=r"resume_from=x.ckpt holds no training that can go on: it is damaged"):
                shorter_training(config)
        else:
            assert shorter_training(config) is checkpoint


def test_weights_alone_are_no_training_to_go_on_with(tmp_path):
    file = written_checkpoint(tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="holds weights alone, which init_from takes"):
        shorter_training({"resume_from": str(file), "trusted": []})
