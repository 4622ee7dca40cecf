import pytest
import torch
from torch import Tensor, nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.images import Batch
from diffusion_lab.errors import UserError
from diffusion_lab.metrics import labels
from diffusion_lab.metrics.labels import accuracy, judge, reading, real_accuracy
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.schedules import Cosine


class Brightness(nn.Module):
    """Reads the class of an image as its brightness in tenths, if it is handed it at the clean end of the schedule."""

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        brightness = noisy.mean((1, 2, 3)) / level.sqrt()
        return -(brightness[:, None] - torch.arange(10) / 10).abs()


CLASSIFIER = NoisyClassifier(Brightness(), Cosine(), signal_power, torch.zeros(1), torch.ones(1))
CLASSES = torch.tensor([3, 1, 4, 1, 5, 9])
PIXELS = (CLASSES * 25.5).round().to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def test_images_are_handed_on_and_read_on_the_way():
    found = []
    handed_on = list(reading(CLASSIFIER, PIXELS.split(4), found))
    assert torch.equal(torch.cat(handed_on), PIXELS)
    assert torch.equal(torch.cat(found), CLASSES)
    assert len(list(reading(None, PIXELS.split(4), found))) == 2
    assert len(found) == 2


def test_accuracy_is_the_share_read_as_asked_for_of_those_asked():
    assert accuracy([CLASSES], torch.tensor([3, 1, 4, 1, 5, 9])) == 1
    assert accuracy([CLASSES[:2], CLASSES[2:]], torch.tensor([3, 0, 0, 1, -1, -1])) == 0.5
    batches = [Batch(PIXELS, CLASSES, CLASSES), Batch(PIXELS[:2], torch.tensor([3, 7]), CLASSES[:2])]
    assert real_accuracy(CLASSIFIER, batches) == pytest.approx(7 / 8)


def test_a_classifier_of_other_classes_is_refused(monkeypatch):
    monkeypatch.setattr(labels, "load_checkpoint", lambda file: {"config": {"data": {"num_classes": 37}}})
    with pytest.raises(UserError, match="knows 37 classes, the data set has 10"):
        judge("file", classes=10)
