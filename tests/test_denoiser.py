import pytest
import torch
from torch import nn

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.process.levels import noise_power
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.targets import Image, Noise


class Fixed(nn.Module):
    """A network that always answers the same."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, noisy, level, label=None):
        self.level = level
        return self.answer


@pytest.mark.parametrize("target", [Noise(), Image()], ids=lambda t: type(t).__name__)
def test_estimates_are_tied_by_the_rates(target):
    noisy, time = torch.randn(5, 1, 4, 4), torch.rand(5)
    denoiser = Denoiser(Fixed(torch.randn(5, 1, 4, 4)), Cosine(), target, noise_power, torch.zeros(1), torch.ones(1))
    prediction = denoiser(noisy, time)
    signal_rate, noise_rate = denoiser.rates(time)
    torch.testing.assert_close(signal_rate * prediction.image + noise_rate * prediction.noise, noisy)
    assert denoiser.network.level.shape == (5,)


def test_pixels_survive_normalisation():
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    denoiser = Denoiser(
        nn.Identity(), Cosine(), Noise(), noise_power, torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.1])
    )
    normalised = denoiser.normalise(pixels)
    torch.testing.assert_close(normalised[:, 1], (pixels[:, 1] / 255 - 0.5) / 0.3)
    assert ((denoiser.to_pixels(normalised) * 255).round() == pixels).all()
