"""Every preset composes to the system that it is named after, learns from a batch and draws an image."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from diffusion_lab.benchmarks.subject import random_images
from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.fit import training_parts
from diffusion_lab.sampling.draw import NetworkCalls
from tests.conftest import PROJECT, composed

PRESETS = sorted(Path(file).stem for file in (PROJECT / "conf" / "experiment").glob("*.yaml"))
SMALLER = {  # the same networks, narrow
    "ADMUNet": ["network.width=16", "network.multipliers=[1,1]", "network.blocks=1", "network.attention=[16]"],
    "DiT": ["network.width=32", "network.depth=2", "network.heads=2", "network.patch=16"],
    "ReferenceUNet": ["network.widths=[8,8]"],
    "UNet": ["network.widths=[8,8]", "network.heads=[0,1]"],
}


def config_of(preset: str, *overrides: str) -> dict:
    cfg = composed("train", f"experiment={preset}", "data.num_classes=3", *overrides)
    check(cfg)
    return plain(cfg)


def small(preset: str) -> dict:
    network = config_of(preset)["network"]["_target_"].rsplit(".", 1)[1]
    heads = ["network.head_channels=8"] if network == "ADMUNet" else []
    return config_of(preset, *SMALLER[network], *heads)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_learns_from_a_batch_and_draws_an_image(preset, tmp_path):
    config = small(preset)
    torch.manual_seed(0)
    module, images = training_parts(config, instantiate(config["network"]), random_images(config, tmp_path, 8))
    batch = images.train.__getitems__(range(8))
    optimizer = module.optimizer(module.parameters())
    noise, times = torch.randn(batch.pixels.shape), module.times(8, torch.device("cpu"))
    losses = []
    for _ in range(4):
        loss = module.objective(batch.pixels, batch.label, noise, times)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    denoiser = module.denoiser.eval()
    with NetworkCalls(denoiser) as calls, torch.inference_mode():
        drawn = instantiate(config["sampler"])(denoiser, torch.randn(2, *batch.pixels.shape[1:]), batch.label[:2], steps=5)
    assert calls.count == 5
    assert drawn.shape == (2, *batch.pixels.shape[1:])
    assert drawn.isfinite().all()


PUBLISHED = {  # parameters, in millions; network calls; images seen, in millions
    "ddpm_cifar10": (35.7, 1000, 800_000 * 128 / 1e6),
    "improved_ddpm_cifar10": (52.5, 4000, 500_000 * 128 / 1e6),
    "edm_cifar10": (56.5, 35, 200),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_cifar10_presets_have_the_published_sizes(preset):
    config = config_of(preset)
    with torch.device("meta"):
        network = instantiate(config["network"])
    parameters, calls, images = PUBLISHED[preset]
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)
    assert config["sampler"]["steps"] == calls
    assert config["epochs"] * 50_000 / 1e6 == pytest.approx(images, rel=0.01)


@pytest.mark.parametrize(
    ("preset", "level"),
    [("reference", "noise_power"), ("edm_cifar10", "log_sigma"), ("ddpm_cifar10", "time"), ("photos", "noise_power")],
)
def test_each_preset_shows_the_network_the_level_its_system_does(preset, level):
    assert config_of(preset)["choices"]["level"] == level


def test_a_level_on_the_command_line_beats_that_of_the_target():
    assert config_of("reference", "target=image")["choices"]["level"] == "signal_power"
    assert config_of("reference", "target=image", "level=log_snr")["choices"]["level"] == "log_snr"
    assert plain(composed("train", "level=log_snr"))["choices"]["level"] == "log_snr"
