"""The posterior of a step against Bayes' rule, and its divergence against torch.distributions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffusion_lab.process import posterior
from diffusion_lab.process.schedules import Cosine, Edm, Flow

PAIRS = [(0.9, 0.7), (0.5, 0.45), (0.2, 0.001)]


def rates_at(schedule, time):
    return tuple(rate.item() for rate in schedule(torch.tensor([time], dtype=torch.float64)))


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Edm()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("time", "earlier"), PAIRS)
def test_variances_are_bayes_rule(schedule, time, earlier):
    """q(earlier | noisy, image) of two Gaussians: the prior q(earlier | image) and the likelihood q(noisy | earlier)."""
    rates, to = rates_at(schedule, time), rates_at(schedule, earlier)
    small, large = posterior.variances(rates, to)
    ratio = rates[0] / to[0]  # noisy = ratio * earlier + N(0, large)
    assert (ratio * to[1]) ** 2 + large == pytest.approx(rates[1] ** 2)
    assert small == pytest.approx(1 / (1 / to[1] ** 2 + ratio**2 / large))
    assert posterior.between(0.0, small, large) == pytest.approx(small)
    assert posterior.between(1.0, small, large) == pytest.approx(large)


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Edm()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("time", "earlier"), PAIRS)
@pytest.mark.parametrize("fraction", [None, -0.2, 0.0, 0.4, 1.0])
def test_divergence_is_that_of_the_two_gaussians(schedule, time, earlier, fraction):
    rates, to = rates_at(schedule, time), rates_at(schedule, earlier)
    small, large = posterior.variances(rates, to)
    image, estimate, noisy = torch.randn(3, 100, dtype=torch.float64)
    # Bayes' rule again: the mean weighs what noisy says and what the image says by their precisions.
    means = [small * (to[0] * x / to[1] ** 2 + rates[0] / to[0] * noisy / large) for x in (image, estimate)]
    variance = small if fraction is None else large**fraction * small ** (1 - fraction)
    expected = kl_divergence(Normal(means[0], small**0.5), Normal(means[1], variance**0.5))
    given = None if fraction is None else torch.full((100,), fraction, dtype=torch.float64)
    rates, to = (tuple(torch.tensor(rate, dtype=torch.float64) for rate in pair) for pair in (rates, to))
    torch.testing.assert_close(posterior.divergence(estimate - image, rates, to, given), expected)


def test_a_plateau_of_the_schedule_costs_nothing_and_has_a_gradient():
    rates = torch.tensor(0.6), torch.tensor(0.8)
    fraction = torch.tensor([0.3], requires_grad=True)
    nats = posterior.divergence(torch.ones(1), rates, rates, fraction)
    nats.backward()
    assert nats.item() == pytest.approx(0)
    assert fraction.grad.item() == pytest.approx(0)
