"""The variational bound against entropies known in closed form."""

import math

import pytest
import torch

from diffusion_lab.metrics.likelihood import bits_per_dimension, measure_bits
from diffusion_lab.process.schedules import Cosine, Edm, LogSnrLinear
from tests.metrics.scorings import scoring_of
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser

MEAN, STD = 120.0, 20.0  # of the pixels


def gaussian_pixels(count: int) -> torch.Tensor:
    torch.manual_seed(0)
    return (MEAN + STD * torch.randn(count, 1, 4, 4)).round().clamp(0, 255).to(torch.uint8)


def exact_denoiser(schedule, mean=MEAN, std=STD):
    """The best denoiser of Gaussian pixels, in a normalised space of its own."""
    return ideal_denoiser(GaussianNetwork(0.0, 1.0), schedule, mean=mean / 255, std=std / 255)


ENTROPY = math.log2(STD * math.sqrt(2 * math.pi * math.e))  # of the pixels, in bins of width 1


@pytest.mark.parametrize("schedule", [LogSnrLinear(5.0, -10.0), Edm(0.08, 160), Cosine()], ids=["log_snr", "edm", "cosine"])
def test_bits_of_gaussian_pixels_are_their_entropy(schedule):
    pixels = gaussian_pixels(1000)
    bits = bits_per_dimension(exact_denoiser(schedule), pixels, None, torch.arange(1000), steps=1000, calls=20)
    assert bits.shape == (1000,)
    assert bits.mean().item() == pytest.approx(ENTROPY, abs=0.02)


def test_fewer_steps_and_a_worse_model_cost_more():
    """Data of twice the deviation that the model assumes: the bound rises by the divergence of the two Gaussians."""
    pixels, index = gaussian_pixels(1000), torch.arange(1000)
    exact = exact_denoiser(LogSnrLinear(5.0, -10.0))
    coarse = bits_per_dimension(exact, pixels, None, index, steps=20, calls=19).mean().item()
    assert coarse > ENTROPY + 0.1
    wide = exact_denoiser(LogSnrLinear(5.0, -10.0), std=2 * STD)
    divergence = (math.log(2) + (1 / 4 - 1) / 2) / math.log(2)
    found = bits_per_dimension(wide, pixels, None, index, steps=1000, calls=20).mean().item()
    assert found == pytest.approx(ENTROPY + divergence, abs=0.02)


def test_a_model_that_does_not_know_of_grey_levels_pays_for_telling_finer_ones():
    """A schedule that begins far below one grey level: the channel's capacity, log2(1 + SNR) / 2, is paid in full."""
    pixels = gaussian_pixels(1000)
    bits = bits_per_dimension(exact_denoiser(LogSnrLinear(13.0, -10.0)), pixels, None, torch.arange(1000), calls=20)
    assert bits.mean().item() == pytest.approx(math.log2(1 + math.exp(13)) / 2, abs=0.1)


def test_the_large_variance_costs_more_than_the_small_one_and_as_much_over_many_steps():
    """Both variances are right in the limit (Ho et al. 2020, sec. 3.2), and the small one is right for one known image."""
    pixels, index = gaussian_pixels(500), torch.arange(500)
    exact = exact_denoiser(LogSnrLinear(5.0, -10.0))
    costs = {
        (steps, large): bits_per_dimension(exact, pixels, None, index, steps, calls=19, large=large).mean().item()
        for steps in (50, 4000)
        for large in (False, True)
    }
    assert abs(costs[50, True] - costs[50, False]) > 5 * abs(costs[4000, True] - costs[4000, False])
    assert costs[4000, True] == pytest.approx(ENTROPY, abs=0.03)


def test_the_mean_over_batches_has_a_standard_error():
    scoring = scoring_of(exact_denoiser(LogSnrLinear(5.0, -10.0)), gaussian_pixels(400))
    found = measure_bits(scoring, calls=10, steps=1000)
    error = found["bits_per_dimension_error"]
    assert found["bits_per_dimension"] == pytest.approx(ENTROPY, abs=5 * error)
    assert 0 < error < 0.05
    assert measure_bits(scoring, calls=None, steps=1000) == {}


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_are_open_ended_bins(value):
    """What lies beyond black counts as black: of a Gaussian around it, all but what lies half a bin inside and further."""
    pixels = torch.full((8, 1, 4, 4), value, dtype=torch.uint8)
    deviation = math.exp(-(5.0 - 15.0 / 1000) / 2)  # at the last of 1,000 steps
    half = 0.5 / STD
    expected = -math.log2(0.5 + 0.5 * math.erf(half / deviation / math.sqrt(2)))

    class Certain(torch.nn.Module):
        def forward(self, noisy, level, label=None):
            return torch.full_like(noisy, (value - MEAN) / STD)

    denoiser = exact_denoiser(LogSnrLinear(5.0, -10.0))
    denoiser.network = Certain()
    found = bits_per_dimension(denoiser, pixels, None, torch.arange(8), calls=5).mean().item()
    assert found == pytest.approx(expected, abs=0.01)
    assert 0.5 < expected < 1
