"""The pictures of a report."""

import numpy as np
import torch
from PIL import Image

from diffusion_lab.experiments.pictures import save_class_grid
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.collect import collect
from diffusion_lab.reports.figures import _first_row, curves
from diffusion_lab.reports.ranking import rankings
from tests.reports.made import made_run, sections


def test_samples_are_rows_of_one_seed_that_all_cells_have(tmp_path):
    for schedule, seeds in (("cosine", (0, 1)), ("linear", (1, 2))):
        for seed in seeds:
            run = made_run(tmp_path, 0.1, seed, schedule=schedule)
            run.samples.mkdir()
            Image.new("RGB", (3 * 66 + 2, 3 * 66 + 2), (50 * seed, 0, 0)).save(run.final_grid)
    by_title, _ = sections([Run(path) for path in tmp_path.iterdir()], with_pictures=True)
    rows = [axis.images[0].get_array() for axis in by_title["Samples, from the same noise"].picture.axes]
    assert [row.shape[:2] for row in rows] == [(68, 200)] * 2  # three images of a row of the 3 x 3 grid
    assert [row[0, 0, 0] for row in rows] == [50, 50]  # both of seed 1


def test_the_first_images_are_found_in_a_grid_with_names_and_images_of_any_shape(tmp_path):
    run = made_run(tmp_path, 0.1)
    images = torch.rand(12, 3, 64, 96)
    save_class_grid(images, ["frog", "toad", "newt"], run.final_grid)
    row = np.asarray(_first_row(run))
    assert row.shape == (68, 3 * 98 + 2, 3)
    wanted = (images[:3] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert all((row[2:66, 2 + 98 * i : 98 * (i + 1)] == wanted[i]).all() for i in range(3))


def test_curves_of_other_images_or_spaces_share_no_axis(tmp_path):
    units = {"huber": "latents abc", "mae": "pixels / 0.5", "mse": "pixels / 0.5"}
    runs = [made_run(tmp_path, 0.1, loss=loss, results={"units": unit}) for loss, unit in units.items()]
    for run in runs:
        run.metrics_file.write_text("step,val/image_loss\n9,0.6\n19,0.5\n")
    collection = collect(runs)
    cells = [cell for ranking in rankings(collection, "kid") for cell in ranking.cells]
    cells.sort(key=lambda cell: list(units).index(cell.label))
    drawn = curves(cells, collection, "step", "step")
    assert [line.get_label() for line in drawn.axes[0].lines] == ["mae", "mse"]
    assert "left out: 1 of 3 cells, of other images or another space" in drawn.get_suptitle()
    alike = curves(cells[1:], collection, "step", "step")
    assert alike.get_suptitle() == ""
