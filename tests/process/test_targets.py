"""Both targets give back image and noise, and the forward process has the mean and variance it should."""

import pytest
import torch

from diffusion_lab.process.schedules import Cosine, Linear, LinearClipped
from diffusion_lab.process.targets import Image, Noise


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), LinearClipped()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("target", [Noise(), Image()], ids=lambda t: type(t).__name__)
def test_solve_inverts_the_forward_process(schedule, target):
    image, noise = torch.randn(2, 64, 3, 4, 4, dtype=torch.float64)
    signal_rate, noise_rate = (rate.view(-1, 1, 1, 1) for rate in schedule(torch.rand(64).double()))
    noisy = signal_rate * image + noise_rate * noise
    solved = target.solve(target.of(image, noise, signal_rate, noise_rate), noisy, signal_rate, noise_rate)
    torch.testing.assert_close(solved, (image, noise), rtol=1e-6, atol=1e-6, check_dtype=False)


def test_levels_are_the_powers_the_reference_shows():
    signal_rate, noise_rate = torch.tensor(0.6), torch.tensor(0.8)
    assert Noise().level(signal_rate, noise_rate).item() == pytest.approx(0.64)
    assert Image().level(signal_rate, noise_rate).item() == pytest.approx(0.36)


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_forward_process_mean_and_variance(time):
    torch.manual_seed(0)
    signal_rate, noise_rate = Cosine()(torch.tensor([time]))
    noisy = signal_rate * 0.7 + noise_rate * torch.randn(200_000)
    assert noisy.mean().item() == pytest.approx(0.7 * signal_rate.item(), abs=0.01)
    assert noisy.var().item() == pytest.approx(noise_rate.item() ** 2, rel=0.02)
