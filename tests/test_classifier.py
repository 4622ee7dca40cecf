"""A NoisyClassifier around networks whose answers are known."""

import torch
from torch import nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.conditions import Classes
from diffusion_lab.process.levels import noise_power
from diffusion_lab.process.schedules import Cosine, Edm
from diffusion_lab.spaces.pixels import Pixels


class MeanOfPixels(nn.Module):
    """Two logits: the mean of the pixels, and the noise level."""

    def forward(self, noisy, level):
        return torch.stack([noisy.mean((1, 2, 3)), level.to(noisy.dtype)], dim=1).bfloat16()


def classifier(schedule: nn.Module) -> NoisyClassifier:
    return NoisyClassifier(MeanOfPixels(), schedule, noise_power, Pixels(1, 4, 0.4, 0.2), Classes(2))


def test_the_network_sees_unit_power_and_the_level_of_each_image():
    noisy, time = 50 * torch.ones(2, 1, 4, 4), torch.tensor([0.5, 1.0])
    logits = classifier(Edm()).eval()(noisy, time)
    sigma = Edm()(time)[1]
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[:, 0], 50 / (1 + sigma**2).sqrt(), rtol=0.01, atol=0)
    torch.testing.assert_close(logits[:, 1], sigma**2 / (1 + sigma**2), rtol=0.01, atol=0)


def test_gradients_reach_the_noisy_image():
    noisy = torch.randn(3, 1, 4, 4, requires_grad=True)
    logits = classifier(Cosine())(noisy, torch.rand(3))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), noisy)
    torch.testing.assert_close(gradient, torch.full((3, 1, 4, 4), 1 / 16), rtol=0.01, atol=0)
