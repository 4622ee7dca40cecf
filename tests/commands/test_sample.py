"""`sample.py` on a tiny run."""

import numpy as np
from PIL import Image, ImageSequence

from diffusion_lab.commands.sample import sample_checkpoint
from tests.conftest import composed


def test_sample_draws_the_same_image_whatever_the_batch(finished, tmp_path):
    for folder, options in (("a", ("count=20", "batch_size=20")), ("b", ("count=18", "batch_size=5"))):
        sample_checkpoint(composed("sample", f"checkpoint={finished.last_checkpoint}", *options), str(tmp_path / folder))
    assert len(list((tmp_path / "a").glob("0*.png"))) == 20
    a, b = (np.asarray(Image.open(tmp_path / folder / "00017.png"), dtype=int) for folder in "ab")
    assert np.abs(a - b).max() <= 1
    assert Image.open(tmp_path / "a/grid.png").width > 100


def test_sample_label_changes_the_image(finished, tmp_path):
    for label in (3, 4):
        options = (f"checkpoint={finished.last_checkpoint}", "count=1", f"label={label}")
        sample_checkpoint(composed("sample", *options), str(tmp_path / str(label)))
    three, four = ((tmp_path / label / "00000.png").read_bytes() for label in "34")
    assert three != four


def test_sample_shows_the_way_from_noise_to_images(finished, tmp_path, capsys):
    options = ("count=7", "batch_size=4", "gif=true", "sampler=heun", "sampler.steps=7")
    sample_checkpoint(composed("sample", f"checkpoint={finished.last_checkpoint}", *options), str(tmp_path))
    with Image.open(tmp_path / "trajectory.gif") as gif, Image.open(tmp_path / "grid.png") as grid:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert sum(durations) == 7 * 500 + 2000  # of as many calls, and of the images; one like the one before is no frame
        assert 6 <= gif.n_frames <= 7 + 1
        assert gif.size == grid.size
        gif.seek(0)
        first = np.asarray(gif.convert("L"), dtype=float)
        gif.seek(gif.n_frames - 1)
        last, images = (np.asarray(picture.convert("L"), dtype=float) for picture in (gif, grid))
    assert np.abs(last - images).mean() < 3  # of 255: a GIF has 256 colours
    assert np.abs(first - images).mean() > 20
    assert "trajectory.gif" in capsys.readouterr().out
