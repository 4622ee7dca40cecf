import numpy as np
import torch
from PIL import Image

from diffusion_lab.experiments.pictures import save_strips


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


def test_a_name_with_dollars_is_no_formula(tmp_path):
    assert save_strips({"price $1_{$": torch.zeros(1, 1, 8, 8)}, ["$\\frac{$"], tmp_path / "strip.png").is_file()
