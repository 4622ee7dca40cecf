"""What is chosen for a folder of images where nothing else is typed."""

from pathlib import Path

import pytest
from PIL import Image

from diffusion_lab.commands.checks import plain
from diffusion_lab.commands.choices import _sampler
from diffusion_lab.commands.suited import (
    choices_said,
    forget_folders,
    suited_epochs,
    suited_patch,
    suited_samples,
    suited_size,
)
from tests.conftest import composed


def folder(place: Path, count: int, size: tuple[int, int]) -> Path:
    place.mkdir(exist_ok=True)
    for i in range(count):
        Image.new("L", size).save(place / f"{i:04d}.png")
    forget_folders()
    return place


@pytest.mark.parametrize(
    ("size", "pixels"), [((500, 333), 64), ((64, 90), 64), ((63, 63), 56), ((32, 40), 32), ((30, 28), 28), ((5, 5), 8)]
)
def test_the_size_is_the_images_up_to_64_px_and_suits_the_network(tmp_path, size, pixels):
    cfg = composed("train", "data=folder", f"data.root={folder(tmp_path / 'x', 12, size)}")
    assert cfg.data.image_size == suited_size(str(tmp_path / "x")) == pixels
    network = plain(cfg)["network"]
    assert pixels % (network["patch"] * 2 ** (len(network["widths"]) - 1)) == 0
    assert len(network["widths"]) == len(network["heads"]) == (3 if pixels >= 48 else 2)


def test_few_images_are_seen_more_often_and_what_was_typed_stays(tmp_path):
    root = folder(tmp_path / "x", 300, (70, 50))
    (root / "broken.png").write_bytes(b"")
    forget_folders()
    assert suited_epochs("folder", str(root), None, 18) == 498  # 150,000 of 301
    assert suited_epochs("folder", str(root), 200, 18) == 750
    assert suited_epochs("folder", str(root), 20, 18) == 1000
    assert suited_epochs("mnist_5k", str(root), None, 18) == 18
    assert suited_epochs("folder", str(tmp_path / "nowhere"), None, 18) == 18
    cfg = composed("train", "data=folder", f"data.root={root}")
    assert cfg.grid.every_n_epochs == 49
    said = choices_said(cfg)
    assert said.startswith("chosen for 301 images of about 70 x 50 px: data.image_size=48, epochs=498 (149,898 images seen)")
    assert "metrics.samples=120;" in said  # four times the 30 that are held out
    assert "epochs" not in choices_said(composed("train", "data=folder", f"data.root={root}", "steps=9"))
    typed = composed("train", "data=folder", f"data.root={root}", "epochs=3", "data.image_size=32", "metrics.samples=1000")
    assert (typed.epochs, typed.data.image_size, choices_said(typed)) == (3, 32, None)
    assert choices_said(composed("train")) is None


@pytest.mark.parametrize(
    ("count", "most", "held_out", "samples"),
    [(20, None, 0.1, 100), (400, None, 0.1, 160), (400, 300, 0.2, 240), (400, None, 0.8, 1000)],
)
def test_no_more_are_drawn_than_there_is_to_compare_with(tmp_path, count, most, held_out, samples):
    root = str(folder(tmp_path / "x", count, (8, 8)))
    assert suited_samples("folder", root, most, held_out) == samples
    assert suited_samples("mnist_5k", root, most, held_out) == suited_samples("folder", None, most, None) == 1000


def test_the_default_run_is_as_it_was():
    config = plain(composed("train"))
    assert config["metrics"]["samples"] == 1000
    assert (config["epochs"], config["data"]["image_size"], config["grid"]["every_n_epochs"]) == (15, 28, 5)
    assert (config["network"]["widths"], config["network"]["heads"], config["network"]["patch"]) == ([64, 64], [0, 2], 2)


@pytest.mark.parametrize(
    ("size", "image_size", "patch"),
    [
        (28, 28, 2),
        (96, 96, 4),
        (128, 128, 4),
        (16, 128, 1),
        (96, 768, 1),
        ([48, 64], [48, 64], 2),
        ([12, 16], [48, 64], 1),
        (None, 64, 2),
    ],
)
def test_latents_are_taken_one_by_one(size, image_size, patch):
    assert suited_patch(size, image_size) == patch


@pytest.mark.parametrize(("preset", "size"), [("small", 32), ("medium", 64), ("large", 128)])
def test_presets_follow_the_evidence(tmp_path, preset, size):
    """docs/which_choice.md: the image target, DPM-Solver++ with a little fresh noise."""
    root = folder(tmp_path / "x", 100, (200, 200))
    config = plain(composed("train", f"experiment={preset}", f"data.root={root}"))
    assert (config["data"]["image_size"], config["epochs"]) == (size, 1000)
    assert (config["choices"]["target"], config["choices"]["sampler"]) == ("image", "dpmpp_2m_eta")
    assert size // config["network"]["patch"] // 2 ** (len(config["network"]["widths"]) - 1) == 8


def test_photos_no_longer_take_what_the_docs_advise_against():
    words = plain(composed("train", "experiment=photos"))["choices"]
    assert (words["target"], words["sampler"], words["network"]) == ("image", "dpmpp_2m_eta", "unet_64px")


@pytest.mark.parametrize(
    ("typed", "steps"),
    [
        ((), 4),
        (("experiment=photos",), 8),
        (("data=cifar10",), 8),
        (("data=folder", "data.root=x", "data.channels=1"), 4),
        (("data=folder", "data.root=x", "data.channels=4"), 8),
        (("experiment=photos", "sampler.steps=5"), 5),
    ],
)
def test_colour_images_are_drawn_in_twice_the_steps_of_grey_ones(typed, steps):
    """docs/samplers.md."""
    assert plain(composed("train", *typed))["sampler"]["steps"] == steps


@pytest.mark.parametrize("program", ["evaluate", "sample", "edit"])
def test_the_sampler_asked_of_a_checkpoint_takes_the_steps_that_it_was_trained_with(program):
    """It took 4, whose images are not known there, where a colour checkpoint has 8: half the calls, without a word."""
    extra = ["edit=noise"] if program == "edit" else []
    chosen = plain(composed(program, "checkpoint=x", "sampler=dpmpp_2m_eta", *extra))["sampler"]
    assert chosen["steps"] is None
    assert _sampler(chosen, {"steps": 8})["steps"] == 8
    assert _sampler({**chosen, "steps": 4}, {"steps": 8})["steps"] == 4


@pytest.mark.parametrize(
    ("word", "flip", "shift", "augmentation"),
    [("none", False, 0, "none"), ("flip", True, 0, "none"), ("shift", False, 2, "none"), ("nonleaky", False, 0, "edm")],
)
def test_augment_is_a_word_over_what_there_is(word, flip, shift, augmentation):
    config = plain(composed("train", "data=cifar10", f"augment={word}"))  # whose own is a flip
    assert (config["data"]["flip"], config["data"]["shift"]) == (flip, shift)
    assert config["choices"]["augmentation"] == augmentation
    assert config["network"].get("augmented") == (9 if word == "nonleaky" else None)
    assert plain(composed("train", "data=cifar10"))["data"]["flip"]
