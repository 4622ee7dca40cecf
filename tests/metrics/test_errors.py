import math

import pytest
import torch

from diffusion_lab.metrics.errors import denoising_errors
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.seeds import times_of_images
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


def test_errors_are_those_of_the_closed_form():
    """For N(0, s^2) pixels the best estimate's error is normal, of known variance: its mean absolute value is known."""
    torch.manual_seed(0)
    std = 0.3
    denoiser = ideal_denoiser(GaussianNetwork(0.0, std), Cosine())
    pixels = (torch.randn(500, 1, 16, 16) * std * 255).float()  # float "pixels": nothing is rounded, nothing is normalised
    index = torch.arange(500)
    errors = denoising_errors(denoiser, pixels, None, index)
    signal, noise = Cosine()(times_of_images(index))
    image_std = std * noise / (signal**2 * std**2 + noise**2).sqrt()
    expected = (image_std * math.sqrt(2 / math.pi)).mean().item()
    assert errors.image.mean().item() == pytest.approx(expected, rel=0.01)
    expected = (image_std * signal / noise * math.sqrt(2 / math.pi)).mean().item()  # tied by the rates
    assert errors.noise.mean().item() == pytest.approx(expected, rel=0.01)


def test_an_images_error_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    denoiser = ideal_denoiser(GaussianNetwork(0.0, 1.0), Cosine())
    pixels = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8)
    together = denoising_errors(denoiser, pixels, None, torch.arange(12))
    alone = denoising_errors(denoiser, pixels[7:8], None, torch.tensor([7]))
    torch.testing.assert_close(alone.image[0], together.image[7])
