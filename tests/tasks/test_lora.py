"""experiment=lora_prompts on a tiny Stable Diffusion: what is trained, what is not, and that diffusers reads it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import diffusion_lab as lab
from diffusion_lab.commands.train import run_once
from diffusion_lab.data.sources import captioned
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from tests.conftest import composed
from tests.pretrained.conftest import folder_of  # noqa: F401

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("peft")
CAPTIONS = ["a red square", "a blue square", "stripes"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioned")
    for i in range(12):
        pixels = np.zeros((20, 20, 3), dtype=np.uint8)
        pixels[..., i % 3] = 220 if i % 3 < 2 else (np.arange(20) % 4 < 2) * 220
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(CAPTIONS[i % 3] + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(folder_of, images, tmp_path_factory):  # noqa: F811
    folder = folder_of("stable_diffusion")
    before = {file: file.read_bytes() for file in folder.rglob("*.safetensors")}
    words = ["experiment=lora_prompts", f"model.path={folder}", f"data.root={images}", "data.image_size=16", "logger=csv"]
    words += ["epochs=12", "batch_size=6", "optimizer.lr=2e-2", "sampler.steps=2", "grid.every_n_epochs=100", "grid.count=1"]
    words += ["trainer.accelerator=cpu", "metrics.samples=2", "model.rank=4"]
    run = Run(tmp_path_factory.mktemp("run") / "lora")
    run_once(composed("train", *words), run)
    assert all(file.read_bytes() == content for file, content in before.items())
    return folder, run


@pytest.mark.ci
def test_the_loss_falls(trained):
    _, run = trained
    with (run.folder / "metrics.csv").open() as lines:
        losses = [float(row["train/loss_epoch"]) for row in csv.DictReader(lines) if row.get("train/loss_epoch")]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.98 * np.mean(losses[:2])


def test_only_adapters_are_in_checkpoint_and_file(trained):
    _, run = trained
    weights = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
    assert weights
    assert all("lora_" in key for key in weights)
    saved = load_file(run.folder / "lora/pytorch_lora_weights.safetensors")
    assert len(saved) == len(weights)
    assert all("lora" in key for key in saved)
    assert run.results()["parameters"] == sum(value.numel() for value in saved.values())


def test_diffusers_draws_the_same_with_it(trained):
    """Its own pipeline with our file, our pipeline with our file, and the checkpoint: the same pixels."""
    folder, run = trained
    file = run.folder / "lora/pytorch_lora_weights.safetensors"
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(str(folder))
    pipe.set_progress_bar_config(disable=True)
    spacing = {"timestep_spacing": "trailing", "set_alpha_to_one": True}
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, **spacing)
    asked = {"latents": noise, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "pt"}
    plain = pipe(CAPTIONS[0], **asked).images
    pipe.load_lora_weights(str(file.parent))
    theirs = pipe(CAPTIONS[0], **asked).images
    assert (theirs - plain).abs().max() > 1e-2
    for model, settings in (
        (lab.load(folder, lora=str(file), accelerator="cpu"), {"prompt": CAPTIONS[0]}),
        (lab.load(run.last_checkpoint), {"label": CAPTIONS[0]}),
    ):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("diffusion_lab.sampling.draw.noise_of_images", lambda *_, **__: noise)
            ours = model.sample(1, **settings, guidance=3.0, steps=2, sampler="ddim")
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_captions_lie_beside_images_or_in_a_table(images, tmp_path):
    source = captioned(str(images))
    assert sorted(source.class_names) == sorted(CAPTIONS)
    assert [source.class_names[source.items[i][1]] for i in range(3)] == [
        (images / f"{Path(source.name_of(i)).stem}.txt").read_text().strip() for i in range(3)
    ]
    for i in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    with pytest.raises(UserError, match=r"0\.png has no caption, in 0\.txt or in metadata\.csv"):
        captioned(str(tmp_path))
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,a fox\n1.png,a boat\n")
    table = captioned(str(tmp_path))
    assert table.class_names == ["a fox", "a boat"]
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,a fox\n1.png,another boat\n")
    assert captioned(str(tmp_path)).fingerprint != table.fingerprint
    (tmp_path / "metadata.csv").write_text("name\n0.png\n")
    with pytest.raises(UserError, match="must have the columns file_name and text"):
        captioned(str(tmp_path))
