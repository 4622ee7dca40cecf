"""Schedules against closed forms and the discrete DDPM product."""

import math

import pytest
import torch

from diffusion_lab.process.schedules import Cosine, Linear, LinearClipped

SCHEDULES = [Cosine(), Linear(), LinearClipped()]
TIMES = torch.tensor([0.0, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_preserves_variance_and_only_gets_noisier(schedule):
    signal, noise = schedule(torch.linspace(0, 1, 1001))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(1001))
    assert (signal.diff() <= 1e-6).all()
    assert signal[-1] < signal[0]


def test_cosine_at_the_reference_times():
    start, end = math.acos(0.95), math.acos(0.02)
    expected = torch.tensor([math.cos(start + t * (end - start)) for t in (0, 0.25, 0.5, 1)])
    torch.testing.assert_close(Cosine()(TIMES)[0], expected)
    torch.testing.assert_close(Cosine()(TIMES)[0], torch.tensor([0.95, 0.8105, 0.5945, 0.02]), atol=5e-5, rtol=0)


def test_linear_clipped_at_the_reference_times():
    # By hand: alpha_bar[floor(999 t)] of the product over 1 - beta, then the clamp on the power.
    product, alpha_bar = 1.0, []
    for i in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
        alpha_bar.append(min(max(product, 0.02), 0.95))
    expected = torch.tensor([math.sqrt(alpha_bar[math.floor(999 * t)]) for t in (0, 0.25, 0.5, 1)])
    torch.testing.assert_close(LinearClipped()(TIMES)[0], expected)


def test_linear_clipped_sits_on_its_noisy_clamp_for_38_percent_of_all_times():
    power = LinearClipped()(torch.linspace(0, 1, 100_001))[0] ** 2
    shares = [torch.isclose(power, torch.tensor(end)).float().mean().item() for end in (0.02, 0.95)]
    assert shares == pytest.approx([0.379, 0.067], abs=0.002)


def test_linear_has_cosines_ends_and_ddpms_shape_between():
    linear = Linear()
    signal, _ = linear(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(signal, torch.tensor([0.95, 0.02]))
    # The discrete product of DDPM at the same place, which the continuous formula must follow to its step size.
    alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    for time in (0.0, 0.3, 0.6, 0.9):
        s = linear.start + (linear.end - linear.start) * time
        nearest = alpha_bar[round(1000 * s) - 1].sqrt().item()
        assert linear(torch.tensor([time]))[0].item() == pytest.approx(nearest, rel=0.02)
