"""From Python the same as from the command line, without waiting for what is not used."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_lab as lab
from diffusion_lab.commands.edit import edit_images
from diffusion_lab.commands.sample import sample_checkpoint
from tests.commands.test_edit import written_checkpoint
from tests.conftest import TINY, composed


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


def test_importing_it_imports_nothing_heavy():
    code = "import sys, diffusion_lab; print([n for n in ('torch', 'hydra', 'numpy', 'pandas') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_there_are_ten_names_and_all_are_there():
    assert len(lab.__all__) == 10
    assert all(getattr(lab, name).__doc__ for name in lab.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        lab.nonsense  # noqa: B018


def pixels(file) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L")).astype(int)


def test_samples_are_those_of_the_command(file, tmp_path):
    options = ("count=3", "label=3", "guidance.scale=2", "sampler.steps=4", "seed=5")
    sample_checkpoint(composed("sample", f"checkpoint={file}", *options), str(tmp_path))
    images = lab.load(file).sample(3, label="3", guidance=2, steps=4, seed=5)
    assert images.shape == (3, 1, 28, 28)
    for i, image in enumerate((images[:, 0] * 255).round().int().numpy()):
        assert np.abs(image - pixels(tmp_path / f"{i:05d}.png")).max() <= 1


def test_edits_are_those_of_the_command(file, tmp_path):
    options = ("edit=superres", "count=2", "edit.factor=2", "sampler.steps=3")
    edit_images(composed("edit", f"checkpoint={file}", *options), str(tmp_path))
    said = json.loads((tmp_path / "edit.json").read_text())
    result = lab.load(file).edit("superres", count=2, factor=2, steps=3)
    assert result.calls == said["network_calls"] == 3
    made = (result.pixels["result"][1, 0] * 255).round().int().numpy()
    assert np.abs(made - pixels(tmp_path / "001_held_out_1_result.png")).max() <= 1


def test_own_images_are_edited(file):
    model = lab.load(file)
    images = torch.rand(2, 1, 28, 28)
    result = model.edit("sdedit", images, label=[3, -1], strengths=[0.5], steps=2, sampler="ddim")
    assert list(result.pixels) == ["input", "strength 0.5"]
    torch.testing.assert_close(result.pixels["input"], images, atol=1 / 255, rtol=0)
    with pytest.raises(lab.UserError, match=r"must be \(N, 1, 28, 28\)"):
        model.edit("sdedit", torch.rand(2, 3, 28, 28))


def test_mistakes_are_user_errors(file, tmp_path):
    model = lab.load(file)
    for call in (
        lambda: model.sample(2, label="rose"),
        lambda: model.sample(2, sampler="nonsense"),
        lambda: model.sample(2, steps=0),
        lambda: lab.load("nowhere.ckpt"),
        lambda: lab.compose("loss=nonsense"),
        lambda: lab.report(tmp_path),
    ):
        with pytest.raises(lab.UserError):
            call()


def test_a_run_is_trained_evaluated_and_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = lab.train(*TINY, "epochs=1", "logger=csv")
    assert run.folder.parent == tmp_path / "outputs/mnist_5k" or str(run.folder).startswith("outputs/mnist_5k")
    figures = lab.evaluate(run.last_checkpoint, folder=tmp_path / "evaluation")
    assert figures["kid"] == run.results()["kid"]
    assert lab.report(tmp_path / "outputs").cells["kid"].iloc[0] == run.results()["kid"]
    assert lab.load(run.last_checkpoint).classes == [str(digit) for digit in range(10)]
