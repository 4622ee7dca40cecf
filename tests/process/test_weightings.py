"""Weightings against the papers' formulas, each for the target it was stated for."""

import pytest
import torch

from diffusion_lab.process import weightings
from diffusion_lab.process.losses import PseudoHuber
from diffusion_lab.process.schedules import Cosine, Flow, Linear, LogSnrLinear, fall_of, log_snr
from diffusion_lab.process.schedules import Edm as Edm_
from diffusion_lab.process.targets import Edm, Image, Noise, Velocity

TIME = torch.linspace(0, 1, 50, dtype=torch.float64)
RATES = LogSnrLinear()(TIME)
SNR = (RATES[0] / RATES[1]) ** 2
ONES = torch.ones(50, dtype=torch.float64)


@pytest.mark.parametrize(
    ("weighting", "target", "expected"),
    [
        (weightings.uniform, Noise(), ONES),
        (weightings.snr, Noise(), ONES),
        (weightings.snr, Image(), SNR),
        (weightings.min_snr, Image(), SNR.clamp(max=5)),
        (weightings.min_snr, Noise(), SNR.clamp(max=5) / SNR),
        (weightings.min_snr, Velocity(), SNR.clamp(max=5) / (SNR + 1)),
        (weightings.p2, Noise(), 1 / (1 + SNR)),
        (weightings.edm, Edm(), ONES),
        (weightings.edm, Velocity(), ONES),
        (weightings.edm, Image(), 1 + SNR),
        (weightings.sigmoid, Noise(), 1 / (1 + SNR * torch.exp(torch.tensor(-2.0)))),
        (weightings.sigmoid, Image(), SNR / (1 + SNR * torch.exp(torch.tensor(-2.0)))),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_weights_are_those_of_the_papers(weighting, target, expected):
    torch.testing.assert_close(weighting(*RATES, target.gain(*RATES), ONES), expected)


@pytest.mark.parametrize("schedule", [LogSnrLinear(), Cosine(), Flow(), Edm_(), Linear()], ids=lambda it: type(it).__name__)
def test_sigmoids_objective_is_the_same_on_every_schedule(schedule):
    """Kingma and Gao 2023, eq. 5: the integral over log-SNR of sigmoid(2 - log-SNR) times the error at that log-SNR."""
    times = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    rates = schedule(times)
    level = log_snr(*rates)
    inside = (level > -5) & (level < 2)  # which all of these reach
    weights = weightings.sigmoid(*rates, Noise().gain(*rates), fall_of(schedule, times))
    found = (weights * inside * (level / 3).cos()).mean()
    levels = torch.linspace(-5, 2, 200_001, dtype=torch.float64)
    expected = torch.trapezoid(torch.sigmoid(2 - levels) * (levels / 3).cos(), levels)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)


def test_edms_weight_undoes_its_preconditioning_at_any_sigma_data():
    weights = weightings.edm(*RATES, Edm(0.5).gain(*RATES), ONES, sigma_data=0.5)
    torch.testing.assert_close(weights, ONES)


def test_pseudo_huber_is_a_square_near_zero_and_an_absolute_value_far_off():
    loss, zero = PseudoHuber(0.1), torch.zeros(3)
    small, large = loss(torch.tensor([1e-3, -1e-3, 0.0]), zero), loss(torch.tensor([50.0, -50.0, 100.0]), zero)
    torch.testing.assert_close(small, torch.tensor([1e-6, 1e-6, 0.0]) / 0.2, rtol=1e-2, atol=1e-8)
    torch.testing.assert_close(large, torch.tensor([49.9, 49.9, 99.9]), rtol=1e-4, atol=0)
