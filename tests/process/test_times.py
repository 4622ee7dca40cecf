import math

import pytest
import torch

from diffusion_lab.process.discrete import Discrete, cosine, linear, quadratic
from diffusion_lab.process.schedules import Cosine, Edm, Flow, log_snr, time_of
from diffusion_lab.process.times import _normal, log_normal, logit_normal, stratified, uniform

CPU = torch.device("cpu")


def test_stratified_puts_one_time_in_each_stratum_in_random_order():
    torch.manual_seed(0)
    times = stratified(64, CPU)
    assert sorted((times * 64).long().tolist()) == list(range(64))
    assert times.tolist() != sorted(times.tolist())


def test_stratified_lowers_the_variance_of_a_mean():
    torch.manual_seed(0)
    means = {draw: torch.stack([draw(32, CPU).square().mean() for _ in range(500)]) for draw in (uniform, stratified)}
    for values in means.values():
        assert abs(values.mean().item() - 1 / 3) < 0.01  # the same density: E[t^2] = 1/3
    assert means[stratified].var() < means[uniform].var() / 100


def test_logit_normal_has_its_mean_and_deviation_and_both_tails():
    torch.manual_seed(0)
    logits = torch.logit(logit_normal(10_000, CPU, mean=0.5, std=0.8).double())
    assert logits.mean().item() == pytest.approx(0.5, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)
    assert (logits < 0.5 - 2 * 0.8).double().mean().item() == pytest.approx(0.0228, abs=0.001)


@pytest.mark.parametrize("schedule", [Edm(), Cosine(0.99999, 0.001)], ids=["edm", "cosine"])
def test_log_normal_is_normal_in_log_sigma_whatever_the_schedule(schedule):
    torch.manual_seed(0)
    times = log_normal(20_000, CPU, schedule, mean=-1.2, std=1.2)
    assert times.dtype == torch.float32
    log_sigma = -log_snr(*schedule(times.double())) / 2
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.02)
    assert log_sigma.max().item() <= math.log(1000) + 1e-3


@pytest.mark.parametrize("schedule", [Edm(), Cosine(), Flow(), Cosine(0.99999, 0.001)])
def test_log_normal_looks_up_what_bisection_finds(schedule):
    torch.manual_seed(0)
    times = log_normal(5_000, CPU, schedule, mean=0.0, std=3.0)
    torch.manual_seed(0)
    found = time_of(schedule, -2 * _normal(5_000, CPU, 0.0, 3.0).double())
    torch.testing.assert_close(times.double(), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("betas", [linear(), cosine(4000), quadratic()], ids=["linear", "cosine", "quadratic"])
def test_log_normal_draws_each_discrete_step_as_often_as_it_should(betas):
    """Its share is the normal density's between the middles of its log-SNR and its neighbours'."""
    torch.manual_seed(0)
    schedule, count = Discrete(betas), 400_000
    drawn = torch.bincount(schedule.step(log_normal(count, CPU, schedule, mean=0.0, std=1.2)), minlength=len(betas))
    levels = log_snr(schedule.signal_rate, schedule.noise_rate).double()
    ends = torch.cat([torch.tensor([math.inf]), (levels[1:] + levels[:-1]) / 2, torch.tensor([-math.inf])])
    wanted = -torch.special.ndtr(ends.double() / 2.4).diff() * count
    often = wanted > 50
    assert often.sum() > 500
    torch.testing.assert_close(drawn[often].double(), wanted[often], rtol=0.3, atol=0)
