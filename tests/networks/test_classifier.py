"""The classifier's network against what it promises: equal chances at first, the noise level, any number of classes."""

import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.networks.classifier import ClassifierNetwork
from tests.networks.test_unet import waken


@pytest.mark.parametrize("blocks", [1, 2])
def test_starts_undecided_in_the_shape_of_its_classes(blocks):
    network = ClassifierNetwork(channels=3, image_size=16, num_classes=7, widths=(8, 8), blocks=blocks)
    logits = network(torch.randn(2, 3, 16, 16), torch.rand(2))
    assert logits.shape == (2, 7)
    assert logits.abs().max() == 0


def test_level_and_image_matter_each_for_its_own_logits():
    network = waken(ClassifierNetwork(channels=1, image_size=16, num_classes=3, widths=(8, 8)))
    noisy, level = torch.randn(2, 1, 16, 16), torch.tensor([0.2, 0.7])
    logits = network(noisy, level)
    assert (network(noisy, torch.tensor([0.9, 0.7])) - logits)[0].abs().max() > 1e-5
    other = network(torch.stack([torch.randn(1, 16, 16), noisy[1]]), level)
    assert (other - logits)[0].abs().max() > 1e-5
    torch.testing.assert_close(other[1], logits[1])


def test_all_parameters_learn():
    network = waken(ClassifierNetwork(channels=1, image_size=16, num_classes=3, widths=(8, 8))).train()
    network(torch.randn(2, 1, 16, 16), torch.rand(2)).square().mean().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30}, r"network classifier takes a multiple of 4 px and sees 30: "),
        ({"num_classes": 0}, r"needs 2 classes or more, and data.num_classes=0: take images with labels"),
        ({"num_classes": 1}, r"needs 2 classes or more, and data.num_classes=1"),
    ],
    ids=str,
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        ClassifierNetwork(**{"channels": 1, "image_size": 28, "num_classes": 10, **settings})
