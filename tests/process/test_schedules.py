"""Schedules against closed forms and the published ones."""

import math

import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.process.discrete import Discrete, cosine, linear, quadratic
from diffusion_lab.process.learned import Learned
from diffusion_lab.process.schedules import (
    Cosine,
    Edm,
    Flow,
    Linear,
    LinearClipped,
    LogSnrLinear,
    Shifted,
    Sigmoid,
    SingleLevel,
    log_snr,
    time_of,
)

PRESERVING = [
    Cosine(),
    Linear(),
    LinearClipped(),
    Sigmoid(),
    LogSnrLinear(),
    Discrete(linear()),
    Discrete(quadratic()),
    Discrete(cosine()),
    Learned(),
    Shifted(Cosine(), image_size=128),
]
SCHEDULES = [*PRESERVING, Flow(), Edm()]  # SingleLevel has no ends: it gets no noisier
TIMES = torch.tensor([0.0, 0.25, 0.5, 1.0])


def name(schedule):
    return type(schedule).__name__


@pytest.mark.parametrize("schedule", PRESERVING, ids=name)
def test_preserves_variance(schedule):
    signal, noise = schedule(torch.linspace(0, 1, 1001))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(1001))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_gets_noisier_between_two_ends_at_which_both_rates_are_positive(schedule, dtype):
    signal, noise = schedule(torch.linspace(0, 1, 1001, dtype=dtype))
    assert signal.dtype == noise.dtype == dtype
    assert (log_snr(signal, noise).diff() <= 1e-5).all()
    assert min(signal.min(), noise.min()) > 0
    assert signal[-1] / noise[-1] < 0.2 * signal[0] / noise[0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_time_of_finds_the_log_snr_or_the_nearer_end(schedule):
    ends = log_snr(*schedule(torch.tensor([0.0, 1.0], dtype=torch.float64)))
    wanted = torch.linspace(ends[0].item() - 1e-3, ends[1].item() + 1e-3, 17, dtype=torch.float64)
    times = time_of(schedule, wanted)
    below, above = (log_snr(*schedule((times + shift).clamp(0, 1))) for shift in (1e-5, -1e-5))
    assert (below <= wanted + 1e-6).all()  # a step of a discrete schedule lies between
    assert (above >= wanted - 1e-6).all()
    assert time_of(schedule, ends + torch.tensor([1.0, -1.0])).tolist() == [0.0, 1.0]


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
    schedule = Linear()
    signal, _ = schedule(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(signal, torch.tensor([0.95, 0.02]))
    # The discrete product of DDPM at the same place, which the continuous formula must follow to its step size.
    alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    for time in (0.0, 0.3, 0.6, 0.9):
        s = schedule.start + (schedule.end - schedule.start) * time
        nearest = alpha_bar[round(1000 * s) - 1].sqrt().item()
        assert schedule(torch.tensor([time]))[0].item() == pytest.approx(nearest, rel=0.02)


def test_sigmoid_is_the_papers_curve_between_its_limits():
    """Jabri et al.'s function, written down as in their algorithm 1, at the place that each of our times stands for."""
    schedule = Sigmoid()

    def gamma(s, start=-3, end=3):
        ends = [1 / (1 + math.exp(-x)) for x in (start, end)]
        return (ends[1] - 1 / (1 + math.exp(-(s * (end - start) + start)))) / (ends[1] - ends[0])

    signal, _ = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert signal.tolist() == pytest.approx([0.9999, 0.01], rel=1e-6)
    places = [(schedule.start + (schedule.end - schedule.start) * t + 3) / 6 for t in (0.0, 0.4, 0.9)]
    assert 0 < places[0] < 0.01
    for time, place in zip((0.0, 0.4, 0.9), places, strict=True):
        alpha_bar = schedule(torch.tensor([time], dtype=torch.float64))[0].item() ** 2
        assert alpha_bar == pytest.approx(gamma(place), rel=1e-9)


def test_edms_even_times_are_the_papers_steps():
    sigma = Edm()(torch.linspace(1, 0, 18, dtype=torch.float64))[1]
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert sigma.tolist() == pytest.approx(expected)


def test_flow_rates_sum_to_one_and_the_shift_is_a_shift_of_the_log_snr():
    time = torch.linspace(0, 1, 11, dtype=torch.float64)
    plain, shifted = Flow(), Flow(shift=3.0)
    torch.testing.assert_close(sum(shifted(time)), torch.ones(11, dtype=torch.float64))
    expected = log_snr(*plain(time)) - 2 * math.log(3)  # Esser et al.: sqrt(m / n) = shift divides the rates' ratio
    torch.testing.assert_close(log_snr(*shifted(time)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_level_is_the_same_at_all_times(dtype):
    signal, noise = SingleLevel(signal_rate=0.8, noise_rate=0.0)(torch.tensor([0.0, 0.3, 1.0], dtype=dtype))
    assert signal.dtype == noise.dtype == dtype
    assert signal.tolist() == pytest.approx([0.8] * 3)
    assert noise.tolist() == [0.0] * 3


def test_a_larger_image_of_the_same_thing_is_as_hidden_under_the_shifted_schedule():
    """Each pixel of a 32 px image doubled to 64 px and averaged back has half the noise: the shift makes up for that."""
    time = torch.linspace(0, 1, 11, dtype=torch.float64)
    large = Shifted(Cosine(), image_size=64, base_size=32)
    signal, noise = large(time)
    torch.testing.assert_close(log_snr(signal, noise / 2), log_snr(*Cosine()(time)))


@pytest.mark.parametrize(
    ("betas", "diffusers_name", "settings"),
    [
        (linear(), "linear", {"beta_start": 1e-4, "beta_end": 0.02}),
        (quadratic(), "scaled_linear", {"beta_start": 1e-4, "beta_end": 0.02}),
        (cosine(), "squaredcos_cap_v2", {}),
        (cosine(steps=4000), "squaredcos_cap_v2", {"num_train_timesteps": 4000}),
    ],
    ids=["linear", "quadratic", "cosine", "cosine-4000"],
)
def test_alpha_bar_is_that_of_diffusers(betas, diffusers_name, settings):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(beta_schedule=diffusers_name, **settings)
    exact = (1 - theirs.betas.double()).cumprod(0)  # theirs are float32: that product is taken again in double precision
    steps = len(exact)
    signal, _ = Discrete(betas)((torch.arange(steps, dtype=torch.float64) + 0.5) / steps)
    torch.testing.assert_close(signal**2, exact, atol=1e-7, rtol=0)


@pytest.mark.parametrize("steps", [10, 20, 50, 1000])
def test_even_float32_times_are_diffusers_trailing_steps(steps):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    schedule = Discrete(linear())
    times = torch.linspace(1, 0, steps + 1)[:-1]
    alpha_bar = (1 - linear()).cumprod(0)[theirs.timesteps].float()
    torch.testing.assert_close(schedule(times)[0] ** 2, alpha_bar)


def test_a_learned_schedule_cannot_be_shifted():
    with pytest.raises(UserError, match="schedule=shifted"):
        Shifted(Learned(), image_size=128)


def test_the_learned_schedule_starts_linear_in_log_snr():
    time = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(log_snr(*Learned()(time)), 10 - 18 * time)


def test_the_learned_schedule_finds_the_density_of_least_variance():
    """With errors that are a known function of the log-SNR the best density is proportional to them, by Cauchy-Schwarz."""
    torch.manual_seed(0)
    schedule = Learned(max_log_snr=8.0, min_log_snr=-8.0, intervals=16)

    def error(level):
        return torch.sigmoid(level) * torch.sigmoid(4 - level) + 0.05

    optimizer = torch.optim.Adam(schedule.parameters(), lr=0.05)
    spreads = []
    for _ in range(500):
        level = log_snr(*schedule(torch.rand(256)))
        spreads.append(schedule.variance(level, error(level)).item())
        optimizer.zero_grad()
        schedule.variance(level, error(level)).backward()
        optimizer.step()
    centres = 8 - torch.arange(0.5, 16)
    best = error(centres) / error(centres).sum()
    torch.testing.assert_close(schedule.logits.softmax(0), best, atol=0.01, rtol=0.15)
    assert sum(spreads[-50:]) / 50 == pytest.approx(1, abs=0.03)  # second moment / mean squared: no variance is left
    assert sum(spreads[:5]) / 5 > 1.5
