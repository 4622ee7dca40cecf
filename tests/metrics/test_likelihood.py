"""The variational bound against entropies known in closed form, and against the papers' computation."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.metrics.likelihood import SEED, bits_per_dimension, measure_bits
from diffusion_lab.process.discrete import Discrete
from diffusion_lab.process.schedules import Cosine, Edm, LogSnrLinear
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.spaces.pixels import Symmetric
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
    """In the limit of many steps; 1,000 cost 0.02 bits more on edm."""
    pixels, denoiser, index = gaussian_pixels(2000), exact_denoiser(schedule), torch.arange(2000)
    bits = bits_per_dimension(denoiser, pixels, None, index, steps=4000, calls=40, decoder="noise")
    assert bits.shape == (2000,)
    error = bits.std().item() / math.sqrt(2000)
    assert error < 0.015
    assert bits.mean().item() == pytest.approx(ENTROPY, abs=2.5 * error)


def test_fewer_steps_and_a_worse_model_cost_more():
    """Data of twice the deviation that the model assumes: the bound rises by the divergence of the two Gaussians."""
    pixels, index = gaussian_pixels(1000), torch.arange(1000)
    exact = exact_denoiser(LogSnrLinear(5.0, -10.0))
    coarse = bits_per_dimension(exact, pixels, None, index, steps=20, calls=19, decoder="noise").mean().item()
    assert coarse > ENTROPY + 0.1
    wide = exact_denoiser(LogSnrLinear(5.0, -10.0), std=2 * STD)
    divergence = (math.log(2) + (1 / 4 - 1) / 2) / math.log(2)
    found = bits_per_dimension(wide, pixels, None, index, steps=4000, calls=80, decoder="noise").mean().item()
    assert found == pytest.approx(ENTROPY + divergence, abs=0.05)  # of other noise it deviates by 0.012


def test_a_model_that_does_not_know_of_grey_levels_pays_for_telling_finer_ones():
    """A schedule that begins far below one grey level: the channel's capacity, log2(1 + SNR) / 2, is paid in full."""
    pixels = gaussian_pixels(1000)
    exact = exact_denoiser(LogSnrLinear(13.0, -10.0))
    bits = bits_per_dimension(exact, pixels, None, torch.arange(1000), steps=4000, calls=80)
    assert bits.mean().item() == pytest.approx(math.log2(1 + math.exp(13)) / 2, abs=0.1)  # 1,000 steps cost 0.1 themselves


def test_the_large_variance_costs_more_than_the_small_one_and_as_much_over_many_steps():
    """Both variances are right in the limit (Ho et al. 2020, sec. 3.2), and the small one is right for one known image."""
    pixels, index = gaussian_pixels(500), torch.arange(500)
    exact = exact_denoiser(LogSnrLinear(5.0, -10.0))
    costs = {
        (steps, large): bits_per_dimension(exact, pixels, None, index, steps, calls=19, large=large, decoder="noise")
        .mean()
        .item()
        for steps in (50, 4000)
        for large in (False, True)
    }
    assert abs(costs[50, True] - costs[50, False]) > 5 * abs(costs[4000, True] - costs[4000, False])
    assert costs[4000, True] == pytest.approx(ENTROPY, abs=0.03)


def test_the_mean_over_batches_has_a_standard_error():
    scoring = scoring_of(exact_denoiser(LogSnrLinear(5.0, -10.0)), gaussian_pixels(400))
    found = measure_bits(scoring, calls=10, steps=1000, decoder="noise")
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
    found = bits_per_dimension(denoiser, pixels, None, torch.arange(8), calls=5, decoder="noise").mean().item()
    assert found == pytest.approx(expected, abs=0.01)
    assert 0.5 < expected < 1


class Guess(Denoiser):
    """Estimates far from good, some of them beyond black and white; and fractions of the learned variance."""

    def __init__(self, schedule, learned: bool):
        super().__init__(schedule, Symmetric(1, 4))
        self.learned = learned

    def forward(self, noisy, time, label=None):
        image = 1.4 * noisy + 0.1
        fraction = torch.sigmoid(noisy) if self.learned else None
        return self.of_image(image, noisy, time, fraction)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_it_is_the_papers_computation(variance):
    """Nichol and Dhariwal's `_vb_terms_bpd` and `_prior_bpd`, written down again from their definitions in NumPy, over all
    steps of a DDPM of 10; with the exact normal distribution where theirs has an approximation of it by a tanh."""
    steps, count = 10, 6
    betas = np.linspace(1e-3, 0.3, steps)
    pixels = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels[0, 0, 0, :2] = torch.tensor([0, 255])
    denoiser = Guess(Discrete(torch.tensor(betas)), variance == "learned")
    found = bits_per_dimension(denoiser.double(), pixels, None, torch.arange(count), steps, steps - 1, variance == "large")

    x = pixels.numpy() / 127.5 - 1
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    posterior_variance = betas * (1 - before) / (1 - bar)
    clipped = np.log(np.append(posterior_variance[1], posterior_variance[1:]))
    bits = (bar[-1] * x**2 + (1 - bar[-1]) - 1 - np.log(1 - bar[-1])) / 2  # of the noisy end
    for t in range(steps):
        drawing = 0 if t == 0 else t  # the call that asks about step t has noise t
        noise = noise_of_images(SEED, range(count), (1, 4, 4), drawing).double().numpy()
        noisy = np.sqrt(bar[t]) * x + np.sqrt(1 - bar[t]) * noise
        estimate = np.clip(1.4 * noisy + 0.1, -1, 1)
        share = 1 / (1 + np.exp(-noisy))
        log_variance = {
            "small": clipped[t] + 0 * x,
            "large": np.log(np.append(posterior_variance[1], betas[1:]))[t] + 0 * x,
            "learned": share * np.log(betas[t]) + (1 - share) * clipped[t],
        }[variance]
        if t == 0:
            deviation = np.exp(log_variance / 2)
            plus = np.where(pixels == 255, 1, norm.cdf((x + 1 / 255 - estimate) / deviation))
            minus = np.where(pixels == 0, 0, norm.cdf((x - 1 / 255 - estimate) / deviation))
            bits = bits - np.log(np.maximum(plus - minus, 1e-12))
            continue
        off = np.sqrt(before[t]) * betas[t] / (1 - bar[t]) * (x - estimate)
        gap = clipped[t] - log_variance
        bits = bits + (-1 - gap + np.exp(gap) + off**2 * np.exp(-log_variance)) / 2
    expected = bits.reshape(count, -1).mean(1) / np.log(2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
