"""Targets give back image and noise, and the forward process has the mean and variance it should."""

import math

import pytest
import torch

from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.targets import Edm, FlowVelocity, Image, Noise, Velocity
from tests.process.test_schedules import SCHEDULES, name

TARGETS = [Noise(), Image(), Velocity(), FlowVelocity(), Edm(), Edm(sigma_data=0.5)]


def rates_at(schedule, time):
    return tuple(rate.view(-1, 1, 1, 1) for rate in schedule(time))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("target", TARGETS, ids=name)
def test_solve_inverts_the_forward_process(schedule, target):
    image, noise = torch.randn(2, 64, 3, 4, 4, dtype=torch.float64)
    rates = rates_at(schedule, torch.rand(64, dtype=torch.float64))
    noisy = rates[0] * image + rates[1] * noise
    solved = target.solve(target.of(image, noise, *rates), noisy, *rates)
    torch.testing.assert_close(solved, (image, noise), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("target", TARGETS, ids=name)
def test_gain_is_what_an_error_of_the_output_does_to_the_image(schedule, target):
    output, error, noisy = torch.randn(3, 64, 3, 4, 4, dtype=torch.float64)
    rates = rates_at(schedule, torch.rand(64, dtype=torch.float64))
    change = target.solve(output + error, noisy, *rates)[0] - target.solve(output, noisy, *rates)[0]
    torch.testing.assert_close(change.abs(), (target.gain(*rates) * error).abs(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_gives_the_network_unit_variance_in_and_out(sigma_data):
    """The first principles from which its coefficients follow (arXiv:2206.00364, appendix B.6)."""
    torch.manual_seed(0)
    target = Edm(sigma_data)
    for sigma in (0.002, 0.3, 1.0, 80.0):
        image, noise = sigma_data * torch.randn(100_000, dtype=torch.float64), torch.randn(100_000, dtype=torch.float64)
        rates = torch.tensor(1.0, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64)
        assert (target.input_scale(*rates) * (image + sigma * noise)).std().item() == pytest.approx(1, abs=0.01)
        assert target.of(image, noise, *rates).std().item() == pytest.approx(1, abs=0.01)


def test_edm_with_unit_data_is_minus_the_velocity_where_variance_is_preserved():
    image, noise = torch.randn(2, 8, 1, 2, 2, dtype=torch.float64)
    rates = rates_at(Cosine(), torch.rand(8, dtype=torch.float64))
    torch.testing.assert_close(Edm().of(image, noise, *rates), -Velocity().of(image, noise, *rates))


def test_edm_keeps_small_noise_apart_from_rounding_in_float32():
    torch.manual_seed(0)
    image, noise = torch.randn(2, 1000)
    rates = torch.tensor(1.0), torch.tensor(0.002)
    solved = Edm().solve(Edm().of(image, noise, *rates), image + 0.002 * noise, *rates)
    torch.testing.assert_close(solved[1], noise, atol=0.01, rtol=0)


def test_velocity_is_the_derivative_along_the_angle():
    """v = d noisy / d angle at signal = cos(angle), noise = sin(angle) (arXiv:2202.00512, appendix D)."""
    angle = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(angle.cos() * 0.3 + angle.sin() * -1.2, angle)
    made = Velocity().of(0.3, -1.2, math.cos(0.7), math.sin(0.7))
    assert made == pytest.approx(slope.item())


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_forward_process_mean_and_variance(time):
    torch.manual_seed(0)
    signal_rate, noise_rate = Cosine()(torch.tensor([time]))
    noisy = signal_rate * 0.7 + noise_rate * torch.randn(200_000)
    assert noisy.mean().item() == pytest.approx(0.7 * signal_rate.item(), abs=0.01)
    assert noisy.var().item() == pytest.approx(noise_rate.item() ** 2, rel=0.02)
