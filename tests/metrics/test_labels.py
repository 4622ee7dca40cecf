import pytest
import torch
from torch import Tensor, nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.conditions import Classes
from diffusion_lab.errors import UserError
from diffusion_lab.metrics import labels
from diffusion_lab.metrics.labels import accuracy, measure_labels, read
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.spaces.pixels import Pixels
from tests.metrics.scorings import scoring_of
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


class Brightness(nn.Module):
    """Reads the class of an image as its brightness in tenths, if it is handed it at the clean end of the schedule."""

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        brightness = noisy.mean((1, 2, 3)) / level.sqrt()
        return -(brightness[:, None] - torch.arange(10) / 10).abs()


CLASSIFIER = NoisyClassifier(Brightness(), Cosine(), signal_power, Pixels(1, 4), Classes(10))
CLASSES = torch.tensor([3, 1, 4, 1, 5, 9])
PIXELS = (CLASSES * 25.5).round().to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


class Opened:
    """A checkpoint that holds CLASSIFIER."""

    def model(self, kind):
        return CLASSIFIER


def test_images_are_read_at_the_clean_end():
    assert torch.equal(read(CLASSIFIER, PIXELS), CLASSES)


def test_images_of_another_size_are_read_in_the_classifiers():
    larger = PIXELS[:, :, :1, :1].expand(-1, 1, 16, 12)
    assert torch.equal(read(CLASSIFIER, larger), CLASSES)
    with pytest.raises(UserError, match="images of 1 channels, and these have 3"):
        read(CLASSIFIER, larger.expand(-1, 3, -1, -1))


def test_accuracy_is_the_share_read_as_asked_for_of_those_asked():
    assert accuracy([CLASSES], torch.tensor([3, 1, 4, 1, 5, 9])) == 1
    assert accuracy([CLASSES[:2], CLASSES[2:]], torch.tensor([3, 0, 0, 1, -1, -1])) == 0.5


def test_drawn_and_real_images_are_read(monkeypatch):
    """All that is drawn is of brightness 0.3, so it is right for the images that were asked to be a 3."""
    monkeypatch.setattr(labels, "load_checkpoint", lambda file, trusted: Opened())
    denoiser = ideal_denoiser(GaussianNetwork(0.3, 1e-4), Cosine(0.99999))
    wrong = torch.tensor([3, 1, 4, 1, 5, 3])  # the last is a 9
    found = measure_labels(scoring_of(denoiser, PIXELS, wrong, classes=10, samples=12, batch_size=5), "file")
    assert found["real_label_accuracy"] == pytest.approx(5 / 6)
    assert found["label_accuracy"] == pytest.approx(2 / 6)
    assert measure_labels(None, None) == {}


def test_a_classifier_of_other_classes_is_refused(monkeypatch):
    monkeypatch.setattr(labels, "load_checkpoint", lambda file, trusted: Opened())
    scoring = scoring_of(ideal_denoiser(GaussianNetwork(0.0, 1.0), Cosine()), PIXELS, CLASSES % 5, classes=5)
    with pytest.raises(UserError, match="knows 10 classes, the data set has 5"):
        measure_labels(scoring, "file")
