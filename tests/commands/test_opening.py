"""The first lines of a run, exact."""

import logging
import re

import numpy as np
import pytest
from PIL import Image

from diffusion_lab.commands import train as command
from diffusion_lab.commands.opening import say_data
from diffusion_lab.experiments.runs import Run
from diffusion_lab.tasks import fitting
from tests.conftest import TINY, composed


@pytest.fixture
def photos(tmp_path):
    """Forty images in two classes."""
    for i in range(40):
        folder = tmp_path / "photos" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_a_run_says_what_it_is_about_to_do(photos, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "diffusion_lab")
    monkeypatch.setattr(fitting, "fit", lambda *_: {"kid": 0.0})
    monkeypatch.setattr(command, "_print_end", lambda *_: None)
    logging.getLogger("diffusion_lab.commands.opening").disabled = False
    words = ("data=folder", f"data.root={photos}", "data.image_size=16", "epochs=1", "accumulate=2", "batch_size=8")
    tiny = [word for word in TINY if not word.startswith(("epochs", "batch_size", "data."))]
    command.train(composed("train", *tiny, *words), str(tmp_path / "run"), is_multirun=False)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("opening")]
    assert lines[0] == "data         photos: 40 images, 36 to train on and 4 held out, 2 classes; 16 px, colour"
    assert lines[1].startswith("folder       ") and lines[1].endswith("run")
    assert re.fullmatch(r"network      unet, [\d,]+ parameters; cpu, \d+ threads?, \S+", lines[2])
    assert lines[3] == "training     1 epoch, an epoch being 3 steps of 8 images x 2"
    caplog.clear()
    command.train(composed("train", *tiny, *words), str(tmp_path / "other"), is_multirun=True)
    assert not [record for record in caplog.records if record.name.endswith("opening")]


def test_images_are_counted_as_they_will_be_used(photos, tmp_path, caplog):
    from diffusion_lab.commands.data import decode_source, open_source

    caplog.set_level("INFO", "diffusion_lab")
    logging.getLogger("diffusion_lab.commands.opening").disabled = False
    words = ("data=folder", f"data.root={photos}", "data.image_size=16", "data.max_images=25")
    config = command.training_config(composed("train", *words), Run(tmp_path / "run"))
    say_data(config, Run(tmp_path / "run"))
    decoded = decode_source(config["data"], open_source(config["data"]))
    said = f"25 images, {len(decoded.train)} to train on and {len(decoded.held_out)} held out"
    assert said in caplog.text
