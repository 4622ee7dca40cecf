"""Every combination of schedule, target, weighting and loss trains; pairs that theory makes equal are equal."""

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.process import weightings
from diffusion_lab.process.learned import Learned
from diffusion_lab.process.levels import log_snr
from diffusion_lab.process.schedules import Cosine, LogSnrLinear
from diffusion_lab.process.targets import Edm, FlowVelocity, Image, Noise, Velocity
from diffusion_lab.process.times import stratified
from diffusion_lab.spaces.pixels import Pixels
from diffusion_lab.training.criteria import Denoising
from diffusion_lab.training.denoiser import DenoiserTraining
from diffusion_lab.training.teachers import Data
from tests.conftest import PROJECT, composed

CPU = torch.device("cpu")


def words(group: str) -> list[str]:
    return sorted(Path(file).stem for file in (PROJECT / "conf" / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def choices() -> dict[str, dict]:
    """Every choice of these groups, built from a config that a user composes with it; one of each group at once."""
    groups = {group: words(group) for group in ("schedule", "target", "weighting", "loss", "times", "level")}
    built = {group: {} for group in groups}
    for i in range(max(map(len, groups.values()))):
        chosen = {group: found[i % len(found)] for group, found in groups.items()}
        config = OmegaConf.to_container(composed("train", *(f"{group}={word}" for group, word in chosen.items())))
        for group, word in chosen.items():
            built[group].setdefault(word, instantiate(OmegaConf.select(OmegaConf.create(config), group)))
    return built


class TinyNetwork(nn.Module):
    """Sees all pixels and the noise level at once: small, so that thousands of trainings take a minute."""

    def __init__(self, outputs: int = 1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16 + 1, 32), nn.SiLU(), nn.Linear(32, 16 * outputs))

    def forward(self, noisy, level, label=None):
        return self.layers(torch.cat([noisy.flatten(1), level[:, None]], dim=1)).view(len(noisy), -1, 4, 4)


def training(schedule, target, weighting, loss, network=None, level=log_snr, times=stratified, **settings):
    denoiser = NetworkDenoiser(network or TinyNetwork(), schedule, target, level, Pixels(1, 4, 0.4, 0.25))
    criterion = Denoising(loss, weighting, Data(), **settings)
    rest = {"optimizer": None, "learning_rate": None, "seed": 0, "config": {}}
    return DenoiserTraining(denoiser, criterion, times, 0.0, **rest)


def blobs(count: int) -> torch.Tensor:
    """Smooth pictures (count, 1, 4, 4), uint8."""
    return (nn.functional.interpolate(torch.rand(count, 1, 2, 2), size=4, mode="bilinear") * 255).to(torch.uint8)


def encoded(pixels: torch.Tensor) -> torch.Tensor:
    """As the space of `training` has them."""
    return (pixels / 255 - 0.4) / 0.25


def losses_of_20_steps(module: DenoiserTraining) -> list[float]:
    """On one batch with its noise and times, so that nothing but learning changes the loss."""
    image, noise, label = encoded(blobs(16)), torch.randn(16, 1, 4, 4), torch.full((16,), -1)
    time = module.times(16, CPU, module.model.schedule)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3, fused=True)
    losses = []
    for _ in range(21):
        loss = module.objective(image, label, noise, time)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


GROUPS = ("schedule", "target", "weighting", "loss")
ALL = [  # but what is refused: a weighting by log-SNR of a single one
    combination
    for combination in itertools.product(*map(words, GROUPS))
    if not {"single_level", "sigmoid"} <= set(combination)
]


def covering(combinations: list[tuple]) -> list[tuple]:
    """Some of them, in which any two choices meet that meet in all: those first that bring most pairs together."""
    found, met = [], set()
    shuffled = random.Random(0).sample(combinations, len(combinations))
    for fewest in range(math.comb(len(GROUPS), 2), 0, -1):
        for combination in shuffled:
            pairs = set(itertools.combinations(zip(GROUPS, combination, strict=True), 2))
            if len(pairs - met) >= fewest:
                found.append(combination)
                met |= pairs
    return found


def check_that_it_trains(choices: dict, combination: tuple) -> None:
    if "learned" in combination:  # its own part of the loss has tests of its own
        choices["schedule"]["learned"].variance = lambda *_: 0.0
    torch.manual_seed(0)
    losses = losses_of_20_steps(training(*(choices[group][word] for group, word in zip(GROUPS, combination, strict=True))))
    assert all(torch.tensor(losses).isfinite()), combination
    assert losses[-1] < losses[0], combination


@pytest.mark.ci
def test_any_two_choices_train_together(choices):
    some = covering(ALL)
    assert len(some) < len(ALL) / 5
    for combination in some:
        check_that_it_trains(choices, combination)


@pytest.mark.slow
def test_every_combination_trains_with_falling_loss(choices):
    for combination in ALL:
        check_that_it_trains(choices, combination)


@pytest.mark.parametrize("level", words("level"))
@pytest.mark.parametrize("times", words("times"))
def test_every_time_density_and_level_trains(times, level, choices):
    torch.manual_seed(0)
    mse, level, times = choices["loss"]["mse"], choices["level"][level], choices["times"][times]
    module = training(Cosine(), Velocity(), weightings.uniform, mse, level=level, times=times)
    losses = losses_of_20_steps(module)
    assert losses[-1] < losses[0]


def gradient(target, weighting) -> torch.Tensor:
    """Of the loss by the image estimate, where the network's output amounts to that estimate."""
    torch.manual_seed(0)
    image, noise, time = encoded(blobs(16)), torch.randn(16, 1, 4, 4), torch.linspace(0.05, 0.95, 16)
    estimate = torch.randn(16, 1, 4, 4).requires_grad_()

    class Oracle(nn.Module):
        def forward(self, scaled, level, label=None):
            signal_rate, noise_rate = module.model.rates(time)
            noisy = scaled / target.input_scale(signal_rate, noise_rate)
            return target.of(estimate, (noisy - signal_rate * estimate) / noise_rate, signal_rate, noise_rate)

    module = training(Cosine(0.999), target, weighting, nn.MSELoss(reduction="none"), Oracle())
    loss = module.objective(image, torch.full((16,), -1), noise, time)
    return torch.autograd.grad(loss, estimate)[0]


EQUAL = {
    "velocity and the noise with weight 1 + 1 / SNR": [(Velocity(), "uniform"), (Noise(), "edm")],
    "velocity and the image with weight SNR + 1": [(Velocity(), "uniform"), (Image(), "edm")],
    "velocity and EDM with unit data": [(Velocity(), "uniform"), (Edm(), "uniform")],
    "noise and the image with weight SNR": [(Noise(), "uniform"), (Image(), "snr")],
    "noise and the flow's velocity with weight SNR": [(Noise(), "uniform"), (FlowVelocity(), "snr")],
    "min-SNR on any two targets": [(Noise(), "min_snr"), (Edm(0.5), "min_snr")],
}


@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL)
def test_pairs_that_are_equal_by_theory_have_equal_gradients(pair):
    first, second = (gradient(target, getattr(weightings, weighting)) for target, weighting in pair)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-7)
    assert (first - gradient(Image(), weightings.uniform)).abs().max() > 1e-4  # not all are the same


def test_hybrid_objective_trains_the_variance_and_not_the_image_by_the_bound():
    """Improved DDPM stops the bound's gradient at the mean: with no weight on the simple loss only the variance moves."""
    torch.manual_seed(0)
    network = TinyNetwork(outputs=2)
    module = training(
        Cosine(0.999),
        Noise(),
        lambda s, n, gain, fall: torch.zeros_like(gain),
        nn.MSELoss(reduction="none"),
        network,
        vlb_weight=1.0,
        vlb_steps=100,
    )
    image, noise, time = encoded(blobs(32)), torch.randn(32, 1, 4, 4), stratified(32, CPU)
    module.objective(image, torch.full((32,), -1), noise, time).backward()
    image_weights, variance_weights = network.layers[2].weight.grad.chunk(2)
    assert image_weights.abs().max() == 0
    assert variance_weights.abs().max() > 0


def test_learned_variance_finds_the_variance_that_the_errors_ask_for():
    """With an image estimate that is always wrong by the same amount, the best variance of a step is small + shift."""
    torch.manual_seed(0)

    class OneFraction(nn.Module):
        def __init__(self):
            super().__init__()
            self.fraction = nn.Parameter(torch.zeros(()))

        def forward(self, noisy, level, label=None):
            return torch.cat([torch.zeros_like(noisy), self.fraction.expand_as(noisy)], dim=1)

    network, at = OneFraction(), torch.full((64,), 0.5)
    module = training(
        Cosine(0.999),
        Image(),
        lambda s, n, gain, fall: 0 * gain,
        nn.MSELoss(reduction="none"),
        network,
        vlb_weight=1.0,
        vlb_steps=10,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    image = encoded(torch.full((64, 1, 4, 4), 166))  # about 1: the error of an estimate of 0
    for _ in range(400):
        optimizer.zero_grad()
        module.objective(image, torch.full((64,), -1), torch.randn(64, 1, 4, 4), at).backward()
        optimizer.step()
    (signal, noise), (to_signal, to_noise) = ((rate.item() for rate in Cosine(0.999)(torch.tensor([t]))) for t in (0.5, 0.4))
    large = noise**2 - (signal / to_signal * to_noise) ** 2
    small = large * (to_noise / noise) ** 2
    error = (166 / 255 - 0.4) / 0.25
    best = small + (to_signal * large / noise**2 * error) ** 2
    fraction = (network.fraction.item() + 1) / 2
    assert large**fraction * small ** (1 - fraction) == pytest.approx(best, rel=0.01)


def test_the_learned_schedule_learns_and_leaves_the_network_to_its_own_loss():
    gradients = []
    for schedule in (Learned(), LogSnrLinear()):  # the same rates at the start
        torch.manual_seed(0)
        module = training(schedule, Velocity(), weightings.uniform, nn.MSELoss(reduction="none"))
        image, noise = encoded(blobs(32)), torch.randn(32, 1, 4, 4)
        module.objective(image, torch.full((32,), -1), noise, torch.linspace(0.01, 0.99, 32)).backward()
        gradients.append(module.model.network.layers[0].weight.grad)
        if isinstance(schedule, Learned):
            assert schedule.logits.grad.abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
