"""Samplers against closed forms: Gaussian and mixture data, and data sets so small that the best denoiser is known."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from diffusion_lab.errors import UserError
from diffusion_lab.process.discrete import Discrete, linear
from diffusion_lab.process.schedules import Cosine, Edm, Flow, Linear, LinearClipped, log_snr, time_of
from diffusion_lab.sampling import times
from diffusion_lab.sampling.diffusers_schedulers import scheduler
from diffusion_lab.sampling.samplers import _resampled_path, ddim, ddpm, dpm_solver, euler, heun
from tests.sampling.ideal import CorrelatedNetwork, GaussianNetwork, IdealNetwork, MixtureNetwork, ideal_denoiser

SCHEDULES = [Cosine(), Linear(), LinearClipped(), Discrete(linear()), Flow(), Edm()]
DETERMINISTIC = {
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpm_solver,
    "dpmpp_3m": partial(dpm_solver, order=3),
}
STOCHASTIC = {
    "ddim_half": partial(ddim, eta=0.5),
    "ddim_one": partial(ddim, eta=1.0),
    "ddpm_small": ddpm,
    "ddpm_large": partial(ddpm, variance="large"),
    "euler_churn": partial(euler, churn=10),
    "heun_churn": partial(heun, churn=10),
    "dpmpp_1_sde": partial(dpm_solver, order=1, eta=1.0),
    "dpmpp_2m_sde": partial(dpm_solver, order=2, eta=1.0),
    "dpmpp_3m_sde": partial(dpm_solver, order=3, eta=1.0),
}
SAMPLERS = {**DETERMINISTIC, **STOCHASTIC}
EXACT = "donot_use_mm_for_euclid_dist"


def type_name(value):
    return type(value).__name__


@pytest.mark.parametrize("schedule", SCHEDULES, ids=type_name)
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_one_image_is_recovered_exactly(schedule, steps, sampler):
    image = torch.randn(1, 1, 4, 4)
    drawn = sampler(ideal_denoiser(IdealNetwork(image), schedule), torch.randn(5, 1, 4, 4), steps=steps)
    torch.testing.assert_close(drawn, image.expand(5, -1, -1, -1), atol=1e-5, rtol=0)


def brings_back(sampler, schedule):
    torch.manual_seed(0)
    images = torch.randn(16, 1, 4, 4)
    drawn = sampler(ideal_denoiser(IdealNetwork(images), schedule), torch.randn(64, 1, 4, 4), steps=101)
    distance, nearest = torch.cdist(drawn.flatten(1), images.flatten(1), compute_mode=EXACT).min(1)
    assert distance.max() < 0.03  # images lie 5 apart
    assert len(nearest.unique()) > 8  # not one image for all


@pytest.mark.parametrize("schedule", SCHEDULES, ids=type_name)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_sixteen_images_are_brought_back(sampler, schedule):
    brings_back(sampler, schedule)


@pytest.mark.parametrize("grid", [times.uniform, times.quadratic, times.karras, times.log_snr_uniform])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=type_name)
def test_sixteen_images_are_brought_back_over_any_times(grid, schedule):
    brings_back(partial(dpm_solver, times=grid), schedule)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), Discrete(linear()), Flow(), Edm()], ids=type_name)
@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler"])
def test_sixteen_images_are_brought_back_by_diffusers_schedulers(schedule, name):
    pytest.importorskip("diffusers")
    brings_back(partial(scheduler, name=name, settings={"timestep_spacing": "trailing"}), schedule)


def last_state(sampler, denoiser, start, calls, end):
    """The state at time `end` that `sampler` reaches with `calls` calls before it, evenly spaced in log-SNR."""
    states = []

    def grid(schedule, steps, device):
        first, last = log_snr(*schedule(torch.tensor([1.0, end], dtype=torch.float64))).tolist()
        return time_of(schedule, torch.linspace(first, last, steps, dtype=torch.float64))

    steps = calls + 1
    sampler(denoiser, start, steps=steps, times=grid, callback=lambda call, noisy, prediction: states.append(noisy))
    return states[-1]


def order(sampler, denoiser, start, exact, calls=(64, 128, 256)):
    """The slope of log error against log calls."""
    errors = [(last_state(sampler, denoiser, start, n, 0.05) - exact).abs().mean().item() for n in calls]
    return -np.polyfit(np.log(calls), np.log(errors), 1)[0]


ORDERS = {"ddim": (0.9, 1.1), "euler": (0.9, 1.1), "heun": (1.8, 2.3), "dpmpp_2m": (1.8, 2.3), "dpmpp_3m": (1.9, 2.3)}


@pytest.mark.parametrize("schedule", [Cosine(0.999, 0.1), Flow(max_noise_rate=0.9), Edm(0.1, 10)], ids=type_name)
@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_gaussian_data_is_solved_at_the_theoretical_order(sampler, schedule):
    """The probability flow of a Gaussian scales what lies off the mean by the marginal's standard deviation."""
    mean, std = 1.5, 0.5
    start = torch.randn(64, 1, 1, 1, dtype=torch.float64)
    (signal, to_signal), (noise, to_noise) = schedule(torch.tensor([1.0, 0.05], dtype=torch.float64))
    begun = torch.hypot(signal, noise) * start
    spread = ((to_signal**2 * std**2 + to_noise**2) / (signal**2 * std**2 + noise**2)).sqrt()
    exact = to_signal * mean + spread * (begun - signal * mean)
    denoiser = ideal_denoiser(GaussianNetwork(mean, std), schedule)
    low, high = ORDERS[sampler]
    assert low < order(DETERMINISTIC[sampler], denoiser, start, exact) < high


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_a_mixture_is_solved_at_the_theoretical_order(sampler):
    """In one dimension the probability flow keeps quantiles: solved by inverting the marginals' distribution functions."""
    weights, means, stds = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.4, 0.6])
    schedule = Cosine(0.999, 0.1)
    start = torch.linspace(-1.5, 1.5, 24, dtype=torch.float64).view(-1, 1, 1, 1)
    (signal, to_signal), (noise, to_noise) = (rate.numpy() for rate in schedule(torch.tensor([1.0, 0.05]).double()))

    def quantile(x, s, n):
        return (weights * norm.cdf(x, s * means, np.sqrt(s**2 * stds**2 + n**2))).sum()

    levels = [quantile(x, signal, noise) for x in start.flatten().numpy()]
    exact = [brentq(lambda x, p=p: quantile(x, to_signal, to_noise) - p, -9, 9, xtol=1e-13) for p in levels]
    network = MixtureNetwork(*(torch.from_numpy(part) for part in (weights, means, stds)))
    exact = torch.tensor(exact, dtype=torch.float64).view(-1, 1, 1, 1)
    low, high = ORDERS[sampler]
    found = order(DETERMINISTIC[sampler], ideal_denoiser(network, schedule), start, exact)
    assert low < found < high


@pytest.mark.parametrize("sampler", STOCHASTIC.values(), ids=STOCHASTIC)
def test_correlated_gaussian_data_gives_its_mean_and_covariance(sampler):
    torch.manual_seed(0)
    mean, covariance = torch.tensor([1.5, -0.5]), torch.tensor([[0.5, 0.3], [0.3, 0.4]])
    denoiser = ideal_denoiser(CorrelatedNetwork(mean, covariance), Cosine(0.99999, 1e-3))
    drawn = sampler(denoiser, torch.randn(50_000, 1, 1, 2), steps=400).flatten(1)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.012, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.015, rtol=0)  # 4 sampling errors of a variance


def test_ancestral_steps_are_ddpms_posterior():
    """A step between neighbouring times draws from q(x' | x, image), whose mean and variance DDPM gives (eq. 7)."""
    schedule, image = Cosine(), torch.zeros(1, 1, 1, 1)
    denoiser = ideal_denoiser(IdealNetwork(image), schedule)
    start = torch.full((100_000, 1, 1, 1), 0.8)
    (signal, signal_next), (noise, noise_next) = schedule(torch.tensor([1.0, 0.5]))
    beta = 1 - (signal / signal_next) ** 2
    variances = {partial(ddim, eta=1.0): noise_next**2 / noise**2 * beta, partial(ddpm, variance="large"): beta}
    for sampler, variance in variances.items():
        states = []
        torch.manual_seed(0)
        sampler(denoiser, start, steps=2, callback=lambda call, noisy, prediction, states=states: states.append(noisy))
        assert states[1].var().item() == pytest.approx(variance.item(), rel=0.02)
        mean = (signal / signal_next) * noise_next**2 / noise**2 * 0.8  # DDPM's posterior mean with x_0 = 0
        assert states[1].mean().item() == pytest.approx(mean.item(), abs=0.02)


def test_ddpm_with_the_small_variance_is_ddim_with_eta_one():
    denoiser = ideal_denoiser(GaussianNetwork(1.5, 0.5), Cosine())
    noise, fresh = torch.randn(8, 1, 2, 2), torch.randn(30, 8, 1, 2, 2)
    drawn = [
        sampler(denoiser, noise, steps=9, fresh_noise=lambda call: fresh[call]) for sampler in (ddpm, partial(ddim, eta=1))
    ]
    torch.testing.assert_close(*drawn)


def test_a_learned_variance_must_be_there():
    with pytest.raises(UserError, match="variance=learned"):
        ddpm(ideal_denoiser(GaussianNetwork(0, 1), Cosine()), torch.randn(1, 1, 2, 2), variance="learned")


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_are_network_calls(steps, sampler):
    denoiser = ideal_denoiser(GaussianNetwork(0, 1), Cosine())
    called = []
    denoiser.register_forward_hook(lambda module, inputs, output: called.append(inputs[1][0].item()))
    seen = []
    SAMPLERS[sampler](denoiser, torch.randn(2, 1, 4, 4), steps=steps, callback=lambda call, *_: seen.append(call))
    expected = steps - 1 if sampler.startswith("heun") and steps > 1 else steps  # an interval takes two, the last one
    assert len(called) == expected
    assert seen == list(range(expected))
    if sampler in ("ddim", "dpmpp_2m"):
        assert called == pytest.approx([1 - i / steps for i in range(steps)])


def test_churn_never_goes_beyond_the_noisy_end_and_stays_on_the_schedule():
    called = []
    denoiser = ideal_denoiser(GaussianNetwork(0, 1), Edm())
    denoiser.register_forward_hook(lambda module, inputs, output: called.append(inputs[1][0].item()))
    euler(denoiser, torch.randn(2, 1, 4, 4), steps=10, churn=5.0)
    plain = [1 - i / 10 for i in range(10)]
    assert called[0] == 1.0
    assert all(churned > time for churned, time in zip(called[1:], plain[1:], strict=True))
    assert max(called) <= 1.0


@pytest.mark.parametrize("jump", [1, 2, 5])
@pytest.mark.parametrize("resamples", [1, 2, 5, 10])
def test_a_way_back_and_forth_takes_the_steps_asked_for_on_enough_levels(resamples, jump):
    for calls in (1, 2, 3, 4, 5, 12, 20, 33, 100, 250):
        path = _resampled_path(calls, resamples, jump)
        forward = [a for a, b in itertools.pairwise(path) if a < b]
        assert len(forward) == calls
        assert (path[0], path[-1]) == (0, max(path))
        assert max(path) >= min(20, calls / 2)
        assert max(forward.count(stop) for stop in forward) <= resamples
        assert all(b - a in (1, -jump) for a, b in itertools.pairwise(path))
        assert forward.count(path[-1] - 1) == 1  # where the image comes out
    assert _resampled_path(5, 2, 2) == [0, 1, 2, 0, 1, 2, 3]
    assert max(_resampled_path(100, 5, 2)) == 22
