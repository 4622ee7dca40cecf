"""`experiment=reference` against the table of the system it reproduces."""

import math

import pytest
import torch
from hydra.utils import instantiate

from diffusion_lab.commands.checks import plain
from tests.conftest import composed


@pytest.fixture
def config() -> dict:
    return plain(composed("train", "experiment=reference"))


def test_budget(config):
    assert (config["epochs"], config["batch_size"]) == (50, 64)
    training_images = 8189 - round(0.2 * 8189)
    assert 50 * math.ceil(training_images * config["data"]["repeat"] / 64) == 25_600
    assert plain(composed("train", "experiment=reference", "data=pets"))["data"]["repeat"] == 3


def test_optimiser_is_plain_adamw_without_schedule_clipping_or_averaging(config):
    optimizer = instantiate(config["optimizer"])(torch.nn.Linear(1, 1).parameters())
    assert type(optimizer) is torch.optim.AdamW
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-3, 1e-4)
    scheduler = instantiate(config["learning_rate"])(optimizer, total_steps=10)
    assert scheduler.get_last_lr() == [1e-3]
    assert config["ema"] is None
    assert config["trainer"]["gradient_clip_val"] is None


def test_data_network_times_and_protocol(config):
    data = config["data"]
    assert (data["image_size"], data["channels"], data["antialias"], data["flip"]) == (64, 3, False, False)
    assert sum(p.numel() for p in instantiate(config["network"]).parameters()) == 3_562_211
    assert instantiate(config["times"]).func.__name__ == "uniform"
    assert config["sampler"]["steps"] == 4
    assert config["metrics"]["protocol"] == "reference"


@pytest.mark.parametrize(
    ("word", "group", "name"),
    [
        ("loss=mse", "loss", "MSELoss"),
        ("loss=mae", "loss", "L1Loss"),
        ("target=image", "target", "Image"),
        ("target=noise", "target", "Noise"),
        ("schedule=linear_clipped", "schedule", "LinearClipped"),
        ("schedule=cosine", "schedule", "Cosine"),
    ],
)
def test_each_factor_is_one_word(word, group, name):
    assert type(instantiate(plain(composed("train", "experiment=reference", word))[group])).__name__ == name
