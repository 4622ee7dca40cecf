import pytest
import torch

from diffusion_lab.process.schedules import Cosine, Flow
from diffusion_lab.sampling.inversion import invert
from diffusion_lab.sampling.samplers import ddim
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser

MEAN, STD = 1.5, 0.5


@pytest.mark.parametrize("schedule", [Cosine(0.99999, 0.02), Flow(max_noise_rate=0.95)], ids=["cosine", "flow"])
def test_the_noise_of_a_gaussian_is_found_as_steps_grow(schedule):
    """The probability flow of a Gaussian scales what lies off the mean by the marginal's standard deviation."""
    torch.manual_seed(0)
    image = MEAN + STD * torch.randn(256, 1, 1, 1, dtype=torch.float64)
    signal_rate, noise_rate = schedule(torch.ones(1, dtype=torch.float64))
    spread = (signal_rate**2 * STD**2 + noise_rate**2).sqrt() / STD
    exact = (signal_rate * MEAN + spread * (image - MEAN)) / torch.hypot(signal_rate, noise_rate)
    denoiser = ideal_denoiser(GaussianNetwork(MEAN, STD), schedule).double()
    found = [invert(denoiser, image, torch.randn_like(image), steps=steps) for steps in (20, 80, 320)]
    away = [(noise - exact).abs().mean() for noise in found]
    assert away[2] < 0.3 * away[1] < 0.2 * away[0]
    back = [
        (ddim(denoiser, noise, steps=steps) - image).abs().mean() for noise, steps in zip(found, (20, 80, 320), strict=True)
    ]
    assert back[2] < 0.3 * back[1] < 0.2 * back[0]
    assert back[2] < 0.003


def test_corrections_come_nearer_to_the_noise_that_ddim_came_from():
    torch.manual_seed(0)
    denoiser = ideal_denoiser(GaussianNetwork(MEAN, STD), Cosine(0.99999, 0.02)).double()
    noise = torch.randn(256, 1, 1, 1, dtype=torch.float64)
    image = ddim(denoiser, noise, steps=10)
    errors = [
        (invert(denoiser, image, torch.randn_like(noise), steps=10, corrections=corrections) - noise).abs().mean()
        for corrections in (0, 2, 6)
    ]
    assert errors[2] < 0.4 * errors[1] < 0.1 * errors[0]
