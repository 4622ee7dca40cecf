"""End to end: a denoiser of latents trains, is scored, draws and edits, by its checkpoint alone."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from diffusion_lab.api import load
from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.checks import plain
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.edit import edit_images
from diffusion_lab.commands.train import train
from diffusion_lab.data.images import Split
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from diffusion_lab.pretrained.autoencoders import saved_autoencoder
from tests.conftest import TINY, UNSCORED, MachineDied, composed
from tests.networks.test_autoencoders import TINY as DIFFUSERS
from tests.networks.test_unet import waken

LATENT = (*TINY, "space=latents", "data.max_images=400", "data.flip=true", "logger=csv")


def written_autoencoder(file, *overrides: str, seed: int = 0):
    """A checkpoint file of an untrained autoencoder of digits."""
    config = plain(composed("train", "task=autoencoder", "network.widths=[16]", *overrides))
    torch.manual_seed(seed)
    model = build(config["model"], "model")
    waken(model.network)
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"config": config, "state_dict": weights}, file)
    return file


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    return written_autoencoder(tmp_path_factory.mktemp("autoencoder") / "untrained.ckpt")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """A small run, whose autoencoder is gone since."""
    folder = tmp_path_factory.mktemp("outputs")
    file = written_autoencoder(folder / "autoencoder.ckpt")
    train(composed("train", *LATENT, f"space.autoencoder={file}"), str(folder / "run"), is_multirun=False)
    file.unlink()
    return Run(folder / "run")


def test_scores_what_it_decodes_and_its_curves_are_of_the_same_latents(finished):
    results = finished.results()
    curve = [float(row["val/noise_loss"]) for row in csv.DictReader(finished.metrics_file.open()) if row["val/noise_loss"]]
    assert results["noise_loss"] == pytest.approx(curve[-1], rel=1e-4)  # the one of cached latents, the other of images
    assert results["units"].startswith("latents ")
    assert np.isfinite(results["kid"])
    with Image.open(finished.final_grid) as grid:
        assert min(grid.size) > 28


def test_latents_of_held_out_images_have_unit_variance(finished):
    data = finished.config()["data"]
    decoded = decode_source(data, open_source(data))
    held_out = Split(decoded, decoded.held_out).__getitems__(range(len(decoded.held_out))).pixels
    space = load_checkpoint(finished.last_checkpoint).model(Denoiser).space.train()
    latents = space.encode(held_out).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.std(1), torch.ones(4), atol=0.05, rtol=0)


def test_the_checkpoint_alone_draws_and_edits(finished, tmp_path, capsys):
    model = load(str(finished.last_checkpoint))
    images = model.sample(3, steps=2, seed=0)
    assert images.shape == (3, 1, 28, 28)
    assert torch.equal(images, model.sample(3, steps=2, seed=0))
    pixels = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    known = torch.ones(28, 28, dtype=torch.bool)
    known[5:15, 9:22] = False  # across the patches of latents
    result = model.edit("inpaint", pixels, steps=2, box=[9, 5, 22, 15]).pixels["result"]
    assert torch.equal(result[..., known], pixels[..., known] / 255)
    assert (result - pixels / 255)[..., ~known].abs().max() > 0.01
    for name, more in (("sdedit", {"strengths": [0.5]}), ("invert", {}), ("interpolate", {"columns": 3})):
        made = model.edit(name, pixels, sampler="ddim", steps=2, **more).pixels
        assert all(columns.shape[1:] == (1, 28, 28) for columns in made.values()), name
    with pytest.raises(UserError, match="edit=superres turns, blurs or averages pixels, and this model draws latents"):
        model.edit("superres", pixels)
    with pytest.raises(SystemExit):
        edit = ("edit=sdedit", f"checkpoint={finished.last_checkpoint}", "sampler=ddim", "sampler/threshold=static")
        edit_images(composed("edit", *edit, "count=2"), str(tmp_path / "edit"))
    assert "clip to black and white, which this model's space has not" in capsys.readouterr().err


def test_a_checkpoint_without_its_autoencoder_or_with_another_says_so(finished, tmp_path):
    state = torch.load(finished.last_checkpoint, weights_only=True)
    weights = state["state_dict"]
    keys = [key for key in weights if "autoencoder" in key]
    for name, changed, message in (
        ("another", {keys[0]: weights[keys[0]] + 0.1}, "holds another autoencoder than that of its latents"),
        ("missing", dict.fromkeys(keys), "their autoencoder is missing from it"),
    ):
        file = tmp_path / f"{name}.ckpt"
        kept = {key: value for key, value in {**weights, **changed}.items() if value is not None}
        torch.save({**state, "state_dict": kept}, file)
        with pytest.raises(UserError, match=message):
            load_checkpoint(file).model(Denoiser)


@pytest.mark.ci
def test_one_command_trains_the_autoencoder_first_and_finds_it_again(tmp_path, monkeypatch):
    words = ("task=autoencoder", "task/perceptual@task.distance=none", "epochs=1", "network.widths=[16]", "batch_size=64")
    first = f"first=[{','.join(repr(word) for word in words)}]"
    preset = ("experiment=latent_flowers", "data=mnist_5k", "network=unet", *UNSCORED, *LATENT)
    typed = (*preset, "epochs=1", first)

    def crash(*_):
        raise MachineDied

    with monkeypatch.context() as patched, pytest.raises(MachineDied):
        patched.setattr("diffusion_lab.tasks.denoiser.DenoiserTask.outcome", crash)
        train(composed("train", *typed), str(tmp_path / "run"), is_multirun=False)
    (before,) = (Run(folder) for folder in tmp_path.glob("autoencoder-*"))
    assert before.results()["epochs"] == 1
    monkeypatch.setattr("diffusion_lab.tasks.autoencoder.AutoencoderTask.training", None)  # would fail if it ran again
    train(composed("train", *typed), str(tmp_path / "run"), is_multirun=False)
    space = Run(tmp_path / "run").config()["space"]
    assert space["autoencoder"] == str(before.last_checkpoint)
    assert Run(tmp_path / "run").results()["choices"]["space"] == "latents"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["space.autoencoder=null"], "space.autoencoder=FILE is missing: a checkpoint of task=autoencoder"),
        (["space.autoencoder=/nowhere"], "space.autoencoder=/nowhere is not there"),
        (["data.image_size=29"], "network autoencoder takes a multiple of 2 px and sees 29: change data.image_size"),
        (["network.patch=4"], "network unet takes a multiple of 8 px and sees 14: change data.image_size"),
        (["data.channels=3"], "data.channels=3, and space.autoencoder takes images of 1"),
        (["sampler/threshold=static"], "sampler/threshold clips to black and white, which latents have not"),
        (["augmentation=edm"], "augmentation changes pixels, and training sees latents"),
        (["metrics.vlb_calls=5"], "metrics.vlb_calls asks for bits per dimension of pixels, which latents have not"),
    ],
)
def test_what_does_not_suit_gets_one_line(autoencoder, tmp_path, capsys, overrides, message):
    typed = [*LATENT, f"space.autoencoder={autoencoder}", *overrides]
    with pytest.raises(SystemExit):
        train(composed("train", *typed), str(tmp_path / "run"), is_multirun=False)
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", DIFFUSERS)
def test_a_folder_of_diffusers_is_taken_as_it_is(tmp_path, kind):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = getattr(diffusers, kind)(**DIFFUSERS[kind]).eval()
    theirs.save_pretrained(tmp_path / "saved")
    network = saved_autoencoder(tmp_path / "saved").network(16)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        encoded = theirs.encode(images, return_dict=False)[0]
        latents = encoded if isinstance(encoded, torch.Tensor) else encoded.mode()
        scaled = (latents - DIFFUSERS[kind].get("shift_factor", 0)) * DIFFUSERS[kind]["scaling_factor"]
        torch.testing.assert_close(network.moments(images)[:, : network.latent_channels], scaled, atol=1e-5, rtol=0)
        own = theirs.decode(latents, return_dict=False)[0]
        torch.testing.assert_close(network.decode(scaled), own, atol=1e-5, rtol=0)


def test_a_folder_that_is_none_says_so(tmp_path):
    with pytest.raises(UserError, match=r"holds neither a checkpoint of task=autoencoder nor diffusers' config.json"):
        saved_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "VQModel", "in_channels": 3}))
    with pytest.raises(UserError, match="is a VQModel: give one of AutoencoderKL"):
        saved_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"_class_name": "AutoencoderKL", "in_channels": 3, "act_fn": "${oc.env:HOME}"})
    )
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="nothing in a file is resolved"):
        saved_autoencoder(tmp_path)
