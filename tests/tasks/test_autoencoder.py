"""End to end: an autoencoder of digits trains, is scored as it scores itself, resumes, and is told from a denoiser."""

import csv
import shlex

import pytest
import torch
from PIL import Image
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from diffusion_lab.autoencoder import Autoencoder
from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.train import next_commands, train
from diffusion_lab.data.images import Split
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.pretrained.autoencoders import saved_autoencoder
from diffusion_lab.spaces.latents import MeasuredLatents
from diffusion_lab.tasks.autoencoder import AutoencoderTask
from diffusion_lab.training.callbacks import EpochLine
from tests.conftest import MachineDied, composed

SMALL = (
    "task=autoencoder",
    "task/perceptual@task.distance=none",
    "epochs=2",
    "batch_size=16",
    "data.max_images=320",
    "network.widths=[16,16]",
    "optimizer.lr=5e-3",
    "logger=csv",
    "trainer.precision=32-true",  # that in which the tests compute again
    "grid.every_n_epochs=1",
    "rehearsal=false",
)
FIGURES = ("psnr", "ssim", "l1", "reconstruction_kid")


def trained(folder, *overrides: str) -> Run:
    train(composed("train", *SMALL, *overrides), str(folder), is_multirun=False)
    return Run(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """One small run, shared by the tests that only look."""
    return trained(tmp_path_factory.mktemp("outputs") / "small")


def held_out(run: Run) -> torch.Tensor:
    data = run.config()["data"]
    decoded = decode_source(data, open_source(data))
    return Split(decoded, decoded.held_out).__getitems__(range(len(decoded.held_out))).pixels


def test_learns_and_leaves_figures_that_torchmetrics_agrees_with(finished):
    results = finished.results()
    rows = list(csv.DictReader(finished.metrics_file.open()))
    curve = [float(row["val/l1"]) for row in rows if row["val/l1"]]
    assert curve[1] < curve[0] < 0.4
    assert curve[1] == pytest.approx(results["l1"], rel=1e-3)
    assert (results["factor"], results["latent_channels"]) == (4, 4)
    for file in ("epoch_0001", "epoch_0002", "final"):
        assert Image.open(finished.samples / f"{file}.png").width > 200
    pixels, model = held_out(finished), load_checkpoint(finished.last_checkpoint).model(Autoencoder)
    with torch.inference_mode():
        made = model(pixels)
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)(made, pixels / 255)
    assert results["ssim"] == pytest.approx(ssim.item(), abs=1e-4)
    psnr = PeakSignalNoiseRatio(data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))(made, pixels / 255)
    assert results["psnr"] == pytest.approx(psnr.item(), abs=1e-3)
    assert results["l1"] == pytest.approx((made - pixels / 255).abs().mean().item(), abs=1e-5)


@pytest.mark.ci
def test_an_interrupted_run_ends_as_an_unbroken_one(finished, tmp_path, monkeypatch):
    def crash(self, trainer, module):
        if trainer.current_epoch == 1:
            raise MachineDied

    with monkeypatch.context() as patched, pytest.raises(MachineDied):
        patched.setattr(EpochLine, "on_train_epoch_end", crash)
        trained(tmp_path)
    run = trained(tmp_path)
    for key in (*FIGURES, "steps", "config_hash"):
        assert run.results()[key] == finished.results()[key], key


def test_as_a_space_it_decodes_what_it_encodes_as_well_as_it_says(finished):
    saved, pixels = saved_autoencoder(finished.folder), held_out(finished)
    space = MeasuredLatents(saved.network(28), 4, 7, saved.sha256()).eval()
    space.measure([pixels])
    made, real = space.decode(space.encode(pixels)), pixels / 255
    psnr = PeakSignalNoiseRatio(data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))(made, real)
    assert finished.results()["psnr"] == pytest.approx(psnr.item(), abs=1e-3)
    assert finished.results()["l1"] == pytest.approx((made - real).abs().mean().item(), abs=1e-5)
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)(made, real)
    assert finished.results()["ssim"] == pytest.approx(ssim.item(), abs=1e-4)


def test_is_told_from_a_denoiser(finished):
    with pytest.raises(UserError, match=r"is of a Autoencoder; give that of a Denoiser"):
        load_checkpoint(finished.last_checkpoint).model(Denoiser)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=autoencoder", "network=unet"], "network=unet and task=autoencoder do not go together"),
        (["network=autoencoder"], "network=autoencoder and task=denoiser do not go together"),
        (["task=autoencoder", "monitor=val/image_loss"], "monitor=val/image_loss must be val/l1"),
        (["task=autoencoder", "data.image_size=30"], "network autoencoder takes a multiple of 4 px and sees 30"),
        (["task=autoencoder", "space=standardised"], "task=autoencoder takes images from -1 to 1: space=symmetric"),
    ],
)
def test_what_does_not_go_together_gets_one_line(tmp_path, capsys, overrides, message):
    with pytest.raises(SystemExit):
        train(composed("train", "data.max_images=320", *overrides), str(tmp_path / "run"), is_multirun=False)
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


def test_the_next_command_is_for_the_same_images(tmp_path):
    typed = ["task=autoencoder", "data=folder", "data.root=my flowers", "data.image_size=[48,64]", "epochs=3", "out=there"]
    (script, words), (_, longer) = next_commands(AutoencoderTask, Run(tmp_path / "run"), {"epochs": 3}, typed)
    place = tmp_path / "run/checkpoints/last.ckpt"
    images = ["data=folder", "data.root=my flowers", "data.image_size=[48,64]"]
    assert (script, shlex.split(words)) == ("train", ["space=latents", f"space.autoencoder={place}", *images])
    resumed = ["task=autoencoder", *images, "epochs=6", f"resume_from={tmp_path / 'run'}"]
    assert shlex.split(longer) == resumed


def test_the_next_commands_trust_the_parts_of_ones_own(tmp_path):
    run = Run(tmp_path / "run")
    run.begin({"epochs": 1, "trusted": ["diffusion_lab", "other"], "space": {"_target_": "parts.space.Half"}})
    typed = ["task=autoencoder", "trusted=[diffusion_lab,other]"]
    for _, words in next_commands(AutoencoderTask, run, {"epochs": 1}, typed):
        assert words.endswith(' "trusted=[diffusion_lab,other,parts]"')
        assert words.count("trusted=") == 1


@pytest.mark.parametrize(
    ("budget", "twice"),
    [({"minutes": 1.5}, "minutes=3"), ({"steps": 5000, "minutes": None}, "steps=10000"), ({"epochs": 2}, "epochs=4")],
)
def test_the_next_training_is_twice_as_long_in_its_own_unit(tmp_path, budget, twice):
    run = Run(tmp_path / "run")
    run.begin(budget)
    *_, (_, words) = next_commands(AutoencoderTask, run, {"epochs": 1.73}, [])
    assert words.split() == [twice, f"resume_from={run.folder}"]
