from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.experiments import pictures
from diffusion_lab.experiments.pictures import save_class_grid, save_denoised, save_grid, save_strips
from diffusion_lab.process.levels import noise_power
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.targets import Noise
from diffusion_lab.sampling.samplers import ddim
from diffusion_lab.spaces.pixels import Symmetric
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


def test_each_image_of_a_strip_stands_in_its_row_and_column(tmp_path):
    """Grey beside colour, small beside large, and names of two lines."""
    levels = {"first": (0.1, 0.3, 0.5), "second\nin two lines": (0.6, 0.7, 0.9)}
    strips = {name: torch.tensor(row).view(3, 1, 1, 1).expand(3, 1, 8, 8) for name, row in levels.items()}
    strips["colour"] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).view(3, 3, 1, 1).expand(3, 3, 80, 80)
    with Image.open(save_strips(strips, ["a", "b\nin one call", "c"], tmp_path / "strip.png")) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    rows, columns = (np.flatnonzero((pixels == (255, 0, 0)).all(2).any(1 - axis)) for axis in (0, 1))
    side, width = int(rows[-1] - rows[0]), int(columns[-1] - columns[0])  # of the red one, at the bottom left
    assert abs(side - width) <= 2
    assert side > 64
    middle = np.array([rows.mean(), columns.mean()])
    step = pixels[int(middle[0]), int(middle[1]) :]
    green = np.flatnonzero((step == (0, 255, 0)).all(1)).mean()
    for i, row in enumerate(levels.values()):
        for j, level in enumerate(row):
            y, x = (middle + np.array([(i - 2) * green, j * green])).round().astype(int)
            assert abs(pixels[y, x] - 255 * level).max() <= 1


class Same(nn.Module):
    def forward(self, noisy, level, label=None):
        return noisy


@pytest.mark.parametrize("labels", [None, torch.tensor([7, -1])], ids=["without labels", "with labels it knows nothing of"])
def test_a_denoiser_without_classes_shows_what_it_makes_of_held_out_images(tmp_path, labels):
    denoiser = NetworkDenoiser(Same(), Cosine(), Noise(), noise_power, Symmetric(1, 8))
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert save_denoised(denoiser, pixels, labels, tmp_path / "denoised.png").is_file()


def test_a_name_with_dollars_is_no_formula(tmp_path):
    assert save_strips({"price $1_{$": torch.zeros(1, 1, 8, 8)}, ["$\\frac{$"], tmp_path / "strip.png").is_file()


def test_transparency_lies_over_white_as_pillow_has_it(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    images = torch.from_numpy(values).permute(2, 0, 1)[None] / 255
    with Image.open(save_grid(images, tmp_path / "grid.png")) as picture:
        seen = np.asarray(picture, dtype=int)
    over = Image.alpha_composite(Image.new("RGBA", (64, 64), "white"), Image.fromarray(values))
    assert np.abs(seen - np.asarray(over.convert("RGB"), dtype=int)).max() <= 1


def test_images_that_are_not_square_keep_their_shape(tmp_path):
    with Image.open(save_grid(torch.rand(6, 1, 32, 96), tmp_path / "grid.png", columns=2)) as picture:
        assert picture.size == (2 * (192 + 2) + 2, 3 * (64 + 2) + 2)
    red = torch.zeros(1, 3, 32, 96)
    red[:, 0] = 1
    with Image.open(save_strips({"wide": red}, ["a"], tmp_path / "strip.png")) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    height, width = (np.ptp(np.flatnonzero((pixels == (255, 0, 0)).all(2).any(axis))) for axis in (1, 0))
    assert width / height == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(("count", "rows", "across"), [(25, 6, 4), (5, 2, 2), (2, 1, 2), (24, 6, 4)])
def test_a_class_grid_has_whole_rows(count, rows, across, tmp_path):
    file = save_class_grid(torch.full((count, 3, 64, 64), 0.5), ["frog", "toad"], tmp_path / "grid.png")
    with Image.open(file) as picture:
        assert picture.size == (across * 66 + 2, rows * 66 + 2 + 19)
        assert (np.asarray(picture.convert("L"))[-20, 20::66] < 200).all()  # an image below in every column


@pytest.mark.parametrize(("steps", "columns"), [(3, 3), (50, 10)])
def test_the_way_from_noise_is_that_of_the_samplers_own_steps(steps, columns, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(pictures, "save_strips", lambda strips, titles, file: said.append((strips, titles)))
    denoiser = ideal_denoiser(GaussianNetwork(0.0, 1.0), Cosine())
    ready = SimpleNamespace(denoiser=denoiser, seed=0, sampler=ddim, classes_in_turn=lambda count: None)
    pictures.save_reverse_process(ready, steps, tmp_path / "reverse.png")
    [(strips, titles)] = said
    assert titles == [f"step {i + 1}" for i in range(columns)]
    assert {len(images) for images in strips.values()} == {columns}


def test_rows_and_columns_are_named_outside_of_the_images(tmp_path):
    images = torch.full((6, 3, 64, 64), 0.5)
    with Image.open(save_grid(images, tmp_path / "plain.png", columns=3)) as picture:
        plain = np.asarray(picture)
    with Image.open(save_grid(images, tmp_path / "rows.png", columns=3, rows=["frog", "a toad " * 20])) as picture:
        rows = np.asarray(picture)
    with Image.open(save_class_grid(images, ["frog", "toad"], tmp_path / "titles.png")) as picture:
        titles = np.asarray(picture)
    assert (rows[:, -plain.shape[1] :] == plain).all()
    left = rows[:, : -plain.shape[1]]
    assert (left[:66] < 128).any() and (left[66:] < 128).any()
    assert 100 < left.shape[1] < 200  # a long name is cut
    assert titles.shape[1] == 2 * 66 + 2  # a column a class
    assert (titles[: -3 * 66 - 2] < 128).any()
