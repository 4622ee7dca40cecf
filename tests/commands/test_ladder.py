"""`judge.py ladder=...` on checkpoints that draw brighter images the shorter they seem to have been trained."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.judge import judge
from diffusion_lab.experiments.runs import Run
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed

SMALL = ("images=8", "pool=16", "real=20", "sets=3", "metrics/figures=[mind]", "metrics.figures.mind.directions=20")
STEPS = (40, 10, 20, 30)


@pytest.fixture(autouse=True)
def pixels_for_features(monkeypatch):
    pixels = {"forward": lambda _, pixels: pixels.flatten(1).float(), "identity": "pixels"}  # which names what is kept
    for name, value in pixels.items():
        monkeypatch.setattr(f"diffusion_lab.metrics.features.EfficientNetLite0.{name}", value)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of 40 steps, with those after 10, 20 and 30 kept."""
    run = Run(tmp_path_factory.mktemp("ladder") / "run")
    run.checkpoints.mkdir(parents=True)
    state = torch.load(
        written_checkpoint(run.last_checkpoint, "sampler.steps=2", "metrics/figures=[errors]", "objective=image_loss"),
        weights_only=True,
    )
    bias = state["state_dict"]["model.network.out.bias"].clone()
    for steps in STEPS:
        state["global_step"], state["state_dict"]["model.network.out.bias"] = steps, bias + 2 - steps / 20
        name = "last" if steps == 40 else f"epoch_{steps // 10:04d}"
        torch.save(state, run.checkpoints / f"{name}.ckpt")
    return run


def judged(folder: Path, *words: str) -> pd.DataFrame:
    judge(composed("judge", *SMALL, *words), str(folder))
    return pd.read_csv(folder / "values.csv")


def test_what_gets_worse_with_each_step_back_is_seen(run, tmp_path, capsys):
    values = judged(tmp_path / "judge", f"ladder={run.folder}")
    [row] = pd.read_csv(tmp_path / "judge/judge.csv").itertuples()
    assert (row.data, row.worsening, row.figure, row.rho, row.reversed) == (
        "mnist_5k 28 px",
        "shorter training",
        "mind",
        1,
        False,
    )
    assert set(values["step"]) == {0, 0.25, 0.5, 0.75}
    assert row.smallest < 0.75
    said = capsys.readouterr().out
    assert "MIND of pixels, with 8 images, sees shorter training from " in said
    assert "fewer steps" in said
    assert "image_loss goes from " in said
    assert (tmp_path / "judge/judge.png").is_file()


def test_the_errors_beside_are_evaluates(run, tmp_path):
    values = judged(tmp_path / "judge", f"ladder={run.folder}")
    found = values[values["figure"] == "image_loss"].set_index("step")["mean"]
    assert found.is_monotonic_increasing
    for step, name in ((0, "last"), (0.75, "epoch_0001")):
        file = run.checkpoints / f"{name}.ckpt"
        evaluate_checkpoint(composed("evaluate", f"checkpoint={file}"), str(tmp_path / name), is_multirun=False)
        assert found[step] == pytest.approx(Run(tmp_path / name).results()["image_loss"], rel=1e-4)


def test_a_list_of_files_and_another_sampler(run, tmp_path):
    files = ",".join(str(run.checkpoints / f"{name}.ckpt") for name in ("epoch_0001", "last", "epoch_0002"))
    ours = judged(tmp_path / "ours", f"ladder=[{files}]", "sampler=ddpm", "sampler.steps=3")
    theirs = judged(tmp_path / "theirs", f"ladder=[{files}]")
    assert list(ours["step"].unique()) == [0, 0.5, 0.75]
    drawn = ours["figure"] == "mind"
    assert (ours[drawn]["mean"] != theirs[drawn]["mean"]).all()
    assert (ours[~drawn]["mean"] == theirs[~drawn]["mean"]).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ladder={run}", "only=[blur]"], "only= and beside= are for images that are made worse"),
        (["ladder=[{run}/checkpoints/last.ckpt]"], "there are 1 of different lengths, and a ladder wants 3"),
        (["ladder={run}/none"], "is not a file"),
        (["ladder=5"], "ladder=5 must be a run's folder, or a list of checkpoint files"),
        (["ladder=[{run}/checkpoints/last.ckpt,{other}]"], "is of other images than the first"),
    ],
)
def test_a_mistake_is_one_line(words, said, run, tmp_path, capsys):
    other = written_checkpoint(tmp_path / "other.ckpt", "data.image_size=16")
    with pytest.raises(SystemExit):
        judged(tmp_path / "judge", *(word.format(run=run.folder, other=other) for word in words))
    assert said in capsys.readouterr().err
    assert not (tmp_path / "judge").exists()
