"""Every preset composes to the system that it is named after, learns from a batch and draws an image."""

from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate

from diffusion_lab.benchmarks.subject import random_images, training_parts
from diffusion_lab.commands.checks import check, plain
from diffusion_lab.errors import UserError
from diffusion_lab.parts import build
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.sampling.draw import NetworkCalls
from tests.conftest import PROJECT, composed
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser

CLASSIFIERS = ("classifier", "noisy_classifier")  # see test_classifier.py
TAUGHT = ("guidance_distillation", "progressive_distillation")  # see test_few_steps.py
ADAPTED = ("lora_prompts",)  # see tests/tasks/test_lora.py
LATENT = ("latent_flowers",)  # see test_latents.py
OTHERS = {*CLASSIFIERS, *TAUGHT, *ADAPTED, *LATENT}
PRESETS = sorted({file.stem for file in (PROJECT / "conf/experiment").glob("*.yaml")} - OTHERS)
SMALLER = {  # the same networks, narrow
    "ADMUNet": ["network.width=16", "network.multipliers=[1,1]", "network.blocks=1", "network.attention=[16]"],
    "DiT": ["network.width=32", "network.depth=2", "network.heads=2", "network.patch=16"],
    "ScoreUNet": ["network.width=16", "network.multipliers=[1,1]", "network.blocks=1", "network.attention=[16]"],
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
    module, images = training_parts(config, random_images(config, tmp_path, 8), tmp_path)
    batch = images.train.__getitems__(range(8))
    optimizer = module.optimizer(module.parameters())
    drawn = module.draw(batch)
    losses = []
    for _ in range(4):
        loss = module.objective(*drawn)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    denoiser = module.model.eval()
    with NetworkCalls(denoiser) as calls, torch.inference_mode():
        drawn = instantiate(config["sampler"])(denoiser, torch.randn(2, *batch.pixels.shape[1:]), batch.label[:2], steps=5)
    assert calls.count == 5 * 2
    assert drawn.shape == (2, *batch.pixels.shape[1:])
    assert drawn.isfinite().all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("sampler", ["ddim", "heun", "unipc"])
def test_preset_goes_with_another_sampler(preset, sampler, tmp_path):
    if sampler == "unipc":
        pytest.importorskip("diffusers")
    if sampler == "unipc" and preset == "edm_cifar10":
        with pytest.raises(UserError, match="sampler/times does not go with sampler=UniPC"):
            config_of(preset, f"sampler={sampler}")
        return
    config = config_of(preset, f"sampler={sampler}")
    denoiser = ideal_denoiser(GaussianNetwork(0.0, 1.0), Cosine())
    drawn = instantiate(config["sampler"])(denoiser, torch.randn(1, 1, 2, 2), steps=3)
    assert drawn.isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=learned", "times=log_normal"], "take times=stratified, not log_normal"),
        (["sampler=ddpm_learned"], "needs variance=learned"),
        (["sampler=diffusers"], "sampler.name=NAME is missing"),
        (["sampler=unipc", "sampler/times=karras"], "sampler/times does not go with"),
        (
            ["task=classifier", "objective=kid"],
            "task=classifier needs objective=cross_entropy",
        ),
        (["network=classifier"], "network=classifier and objective=cross_entropy want task=classifier"),
        (["experiment=noisy_classifier", "network=unet"], "network=unet gives images"),
        (["data.shift=-1"], "data.shift=-1 must be a whole number, at least 0"),
        (["variance.steps=1"], "variance.steps=1 must be a whole number, at least 2"),
        (["sampler=ddpm", "sampler.variance=huge"], "sampler.variance=huge must be one of small, large, learned"),
    ],
)
def test_choices_that_do_not_go_together_are_named(overrides, message):
    pytest.importorskip("diffusers")
    with pytest.raises(UserError, match=message):
        check(composed("train", *overrides))


def test_a_setting_of_another_choice_is_a_users_mistake():
    config = plain(composed("train", "experiment=improved_ddpm_cifar10", "network=unet_64px"))
    with pytest.raises(UserError, match=r"network\.head_channels, .*network\.dropout do not belong to UNet, which"):
        build(config["network"], "network")


PUBLISHED = {  # parameters, in millions; network calls; images seen, in millions
    "ddpm_cifar10": (35.7, 1000, 800_000 * 128 / 1e6),
    "improved_ddpm_cifar10": (52.5, 4000, 500_000 * 128 / 1e6),
    "edm_cifar10": (55.7, 35, 200),
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
    [("reference", "noise_power"), ("edm_cifar10", "log_sigma"), ("ddpm_cifar10", "time"), ("photos", "signal_power")],
)
def test_each_preset_shows_the_network_the_level_its_system_does(preset, level):
    assert config_of(preset)["choices"]["level"] == level


def test_the_default_is_guided_where_there_are_labels_and_nowhere_else():
    scales = {
        ("data=mnist_5k",): 1.75,
        ("data=flowers", "experiment=reference"): 1.0,
        ("data=folder", "data.num_classes=0"): 1.0,
        ("data=folder", "data.num_classes=3"): 1.75,
        ("guidance=none",): 1.0,
    }
    for overrides, scale in scales.items():
        assert plain(composed("train", *overrides))["guidance"]["scale"] == scale


def test_a_level_on_the_command_line_beats_that_of_the_target():
    assert config_of("reference", "target=image")["choices"]["level"] == "signal_power"
    assert config_of("reference", "target=image", "level=log_snr")["choices"]["level"] == "log_snr"
    assert plain(composed("train", "level=log_snr"))["choices"]["level"] == "log_snr"


def test_ddpms_optimizer_and_clipping_go_with_bf16(tmp_path):
    """Lightning's own clipping refuses the fused Adam of this preset under bf16, at its first step."""
    config = config_of("ddpm_cifar10", *SMALLER["ADMUNet"], "batch_size=4")
    module, images = training_parts(config, random_images(config, tmp_path, 8), tmp_path)
    settings = {**config["trainer"], "precision": "bf16-mixed", "accelerator": "cpu", "fast_dev_run": 2}
    trainer = build(settings, "trainer", logger=False, enable_progress_bar=False)
    before = [weights.clone() for weights in module.parameters()]
    trainer.fit(module, datamodule=images)
    assert trainer.global_step == 2
    assert any((weights != old).any() for weights, old in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize(("fused", "most"), [(True, 0.5 * 1024), (False, 0.5)])
def test_gradients_that_are_scaled_are_clipped_by_their_true_norm(fused, most, tmp_path):
    """With float16's scaler: fused optimizers take its factor away as they step, for others Lightning has done so."""
    config = config_of("ddpm_cifar10", *SMALLER["ADMUNet"], f"optimizer.fused={fused}")
    module, _ = training_parts(config, random_images(config, tmp_path, 8), tmp_path)
    scaler = SimpleNamespace(get_scale=lambda: 1024.0)
    module._trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler))
    for weights in module.parameters():
        weights.grad = torch.full_like(weights, 100.0)
    module.configure_gradient_clipping(module.optimizer(module.parameters()), 0.5, "norm")
    norm = torch.stack([weights.grad.norm() for weights in module.parameters()]).norm()
    assert norm.item() == pytest.approx(most, rel=1e-3)


def test_gradients_are_clipped_to_the_norm_that_is_asked_for(tmp_path):
    config = config_of("ddpm_cifar10", *SMALLER["ADMUNet"])
    module, _ = training_parts(config, random_images(config, tmp_path, 8), tmp_path)
    for weights in module.parameters():
        weights.grad = torch.ones_like(weights)
    module.configure_gradient_clipping(None, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
    norm = torch.stack([weights.grad.norm() for weights in module.parameters()]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-3)
    module.configure_gradient_clipping(None, gradient_clip_val=1e-3, gradient_clip_algorithm="value")
    assert max(weights.grad.abs().max() for weights in module.parameters()) <= 1e-3
