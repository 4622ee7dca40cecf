"""The loss and the held-out figures of classifiers whose answers are known."""

import contextlib
import math

import pytest
import torch
from torch import nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.conditions import Classes
from diffusion_lab.data.images import Batch
from diffusion_lab.metrics.classification import TIMES, reading_figures
from diffusion_lab.process.levels import time as level_time
from diffusion_lab.process.schedules import Cosine, SingleLevel
from diffusion_lab.process.times import stratified
from diffusion_lab.spaces.pixels import Pixels
from diffusion_lab.training.classifier import ClassifierTraining

CLASSES = 5


class Constant(nn.Module):
    """The same logits for every image: no class is likelier than another."""

    def forward(self, noisy, level):
        return torch.full((len(noisy), CLASSES), 3.0)


class Threshold(nn.Module):
    """Tells dark images from bright ones by their mean: class 0 or 1, surely."""

    def forward(self, noisy, level):
        return 1000 * torch.stack([-noisy.mean((1, 2, 3)), noisy.mean((1, 2, 3))], dim=1)


def classifier(network: nn.Module, schedule: nn.Module) -> NoisyClassifier:
    return NoisyClassifier(network, schedule, level_time, Pixels(1, 4, 0.5, 0.5), Classes(CLASSES))


def training(network: nn.Module, schedule: nn.Module) -> ClassifierTraining:
    module = ClassifierTraining(
        classifier(network, schedule), stratified, optimizer=None, learning_rate=None, seed=0, config={}
    )
    module.logged = {}
    module.log = lambda name, value, batch_size, **_: module.logged.update({name: (float(value), batch_size)})
    return module


def dark_and_bright(count: int, label: torch.Tensor) -> Batch:
    """Images 0, 2, 4, ... are black, the others white."""
    shade = (torch.arange(count) % 2 * 255).to(torch.uint8)
    return Batch(shade.view(-1, 1, 1, 1).expand(count, 1, 4, 4), label, torch.arange(count))


def test_a_constant_network_has_the_entropy_of_guessing():
    module = training(Constant(), Cosine())
    batch = dark_and_bright(8, torch.arange(8) % CLASSES)
    assert module.training_step(batch, 0).item() == pytest.approx(math.log(CLASSES))
    module.validation_step(batch, 0)
    assert module.logged["val/cross_entropy"] == (pytest.approx(math.log(CLASSES)), 8)
    assert module.logged["val/accuracy"] == (2 / 8, 8)  # the first of equals: images 0 and 5


def test_images_without_a_label_count_nowhere():
    module = training(Threshold(), SingleLevel(noise_rate=0.0))
    wrong, none = torch.tensor([0, 1, 1, -1]), torch.full((4,), -1)
    assert module.training_step(dark_and_bright(4, wrong), 0).item() == pytest.approx(2000 / 3)
    module.validation_step(dark_and_bright(4, wrong), 0)
    assert module.logged["val/cross_entropy"] == (pytest.approx(2000 / 3), 3)
    assert module.logged["val/accuracy"] == (pytest.approx(2 / 3), 3)
    assert module.training_step(dark_and_bright(4, none), 0).item() == 0
    module.validation_step(dark_and_bright(4, none), 0)
    assert module.logged["val/cross_entropy"] == module.logged["val/accuracy"] == (0, 0)


def test_accuracy_by_time_is_that_of_the_noise_at_each_time():
    """The mean of 16 pixels is signal_rate * ±1 + noise_rate * N(0, 1/16): the share on the right side is known."""
    count = 2000
    batch = dark_and_bright(count, torch.arange(count) % 2)
    parts = zip(*(part.split(300) for part in batch), strict=True)
    batches = [Batch(*part) for part in parts]
    schedule = Cosine(min_signal_rate=0.02)
    figures = reading_figures(classifier(Threshold(), schedule), lambda: batches, contextlib.nullcontext())
    signal_rate, noise_rate = schedule(torch.tensor(TIMES))
    expected = torch.special.ndtr(4 * signal_rate / noise_rate)
    assert list(figures["accuracy_by_time"].values()) == pytest.approx(expected.tolist(), abs=0.03)
    times = torch.linspace(0, 1, 1001)
    signal_rate, noise_rate = schedule(times)
    assert figures["accuracy"] == pytest.approx(torch.special.ndtr(4 * signal_rate / noise_rate).mean().item(), abs=0.02)
    assert figures["real_images"] == count
    whole = reading_figures(classifier(Threshold(), schedule), lambda: [batch], contextlib.nullcontext())
    assert whole["accuracy_by_time"] == figures["accuracy_by_time"]  # an image's noise does not depend on its batch
