"""The example of docs/extending.md, run as a user would."""

import importlib
import json
import re

import pytest
import torch

from diffusion_lab.figures import Figure
from diffusion_lab.process.schedules import Cosine, Edm
from diffusion_lab.sampling.draw import Finite
from diffusion_lab.sampling.samplers import ddim
from diffusion_lab.tasks.fitting import mode_of
from tests.conftest import PROJECT
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser
from tests.typed import one_line_error, type_command


@pytest.fixture
def mine(tmp_path):
    """The files of the example."""
    text = (PROJECT / "docs/extending.md").read_text()
    for name, content in re.findall(r"`((?:conf|parts)/[\w/.]+)`\n\n```\w+\n(.*?)```", text, re.DOTALL):
        file = tmp_path / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "mine/parts/__init__.py").touch()
    assert len(list((tmp_path / "mine").rglob("*.*"))) == 13
    return tmp_path


@pytest.mark.ci
def test_the_example_trains_is_reported_and_is_opened_by_those_who_trust_it(mine, monkeypatch):
    monkeypatch.setenv("DIFFUSION_LAB_CONF", "mine/conf")
    choices = (
        "schedule=half",
        "network=mlp",
        "data=noise",
        "sampler=two_calls",
        "metrics/figures=[errors,kid,fid,contrast]",
    )
    small = ("epochs=1", "batch_size=16", "metrics.samples=20", "grid.count=4", "logger=csv", "objective=contrast")
    result = type_command(mine, "train", "-m", *choices, *small, "seed=0,1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Ranking by" not in result.stderr
    assert "contrast" in result.stdout
    runs = sorted((mine / "outputs/noise").glob("*/results.json"))
    results = [json.loads(file.read_text()) for file in runs]
    assert all(0 < each["contrast"] < 255 and each["network_calls"] == 2 for each in results)
    checkpoint = f"checkpoint={runs[0].parent}/checkpoints/last.ckpt"
    strange = type_command(mine, "sample", checkpoint, "count=2")
    assert strange.returncode == 1
    assert 'if you trust it, add "trusted=[diffusion_lab,parts]"' in strange.stderr
    trusting = type_command(mine, "sample", checkpoint, "count=2", "trusted=[diffusion_lab,parts]", "hydra.run.dir=drawn")
    assert trusting.returncode == 0, trusting.stderr
    assert len(list((mine / "drawn").glob("0*.png"))) == 2


@pytest.mark.ci
def test_its_kind_of_training_learns_and_is_ranked_by_its_own_figure(mine, monkeypatch):
    """Its curve could not be monitored, and without classes the default guidance could not be resolved."""
    monkeypatch.setenv("DIFFUSION_LAB_CONF", "mine/conf")
    typed = ("task=clock", "network=mlp", "data=noise", "logger=csv", "optimizer.lr=1e-5,2e-3", "seed=0,1")
    result = type_command(mine, "train", "-m", *typed)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lr 0.002 beats lr 1e-05 on error of the time" in result.stdout
    runs = [json.loads(file.read_text()) for file in (mine / "outputs/noise").glob("*/results.json")]
    assert min(run["time_error"] for run in runs) < 0.47 < max(run["time_error"] for run in runs) < 0.6
    assert len(list((mine / "outputs/noise").glob("*/checkpoints/best.ckpt"))) == 4


@pytest.mark.ci
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("monitor=val/typo", "monitor=val/typo must be val/time_error, which ClockTask measures"),
        ("early_stop=val/kid", "early_stop=val/kid must be val/time_error, which ClockTask measures"),
        ("objective=kid", "objective=kid must be time_error, which ClockTask measures"),
        ("~monitor", "task=clock sets no monitor: conf/task/clock.yaml is to say monitor: and the name of a figure"),
    ],
)
def test_a_figure_that_its_training_does_not_have_is_one_line_before_it(mine, monkeypatch, typed, said):
    """It trained to the end without a word, without a best.ckpt, or ended a multirun after the first job."""
    monkeypatch.setenv("DIFFUSION_LAB_CONF", "mine/conf")
    result = type_command(mine, "train", "task=clock", "network=mlp", "data=noise", "logger=csv", "metrics=reference", typed)
    assert one_line_error(result) == f"error: {said}"


def test_a_figure_of_its_training_that_is_better_when_higher_is_known_to_be(mine, monkeypatch):
    """The worst epoch was best.ckpt, and early_stop stopped what got better."""
    monkeypatch.syspath_prepend(str(mine / "mine"))
    task = importlib.import_module("parts.task").ClockTask
    config = {"task": {"_target_": "parts.task.ClockTask"}, "metrics": None}
    assert mode_of("val/time_error", config) == "min"
    monkeypatch.setattr(task, "figures", (Figure("time_error", "x", less_is_better=False),))
    assert mode_of("val/time_error", config) == "max"


def test_its_sampler_is_ddim(mine, monkeypatch):
    monkeypatch.syspath_prepend(str(mine / "mine"))
    two_calls = importlib.import_module("parts.sampler").two_calls
    noise = torch.randn(2, 1, 8, 8)
    for schedule in (Cosine(), Edm()):
        denoiser = ideal_denoiser(GaussianNetwork(0.3, 0.5), schedule)
        for steps in (1, 2, 5):
            drawn = Finite(two_calls)(denoiser, noise, steps=steps)
            torch.testing.assert_close(drawn, ddim(denoiser, noise, steps=steps), atol=1e-4, rtol=1e-4)
