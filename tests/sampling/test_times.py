import numpy as np
import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.process.schedules import Cosine, Edm, Flow, log_snr
from diffusion_lab.sampling import times

CPU = torch.device("cpu")


def type_name(value):
    return type(value).__name__


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Edm()], ids=type_name)
@pytest.mark.parametrize("grid", [times.trailing, times.uniform, times.quadratic, times.karras, times.log_snr_uniform])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_times_fall_from_the_noisy_end(schedule, grid, steps):
    made = grid(schedule, steps, CPU)
    assert made.shape == (steps,)
    assert made[0] == 1 or grid in (times.karras, times.log_snr_uniform)  # which leave out sigma above 80
    assert made[0] > 0.98
    assert (made.diff() < 0).all()
    assert made[-1] >= 0


def test_even_and_quadratic_times():
    assert times.trailing(None, 4, CPU).tolist() == [1, 0.75, 0.5, 0.25]
    assert times.uniform(None, 5, CPU).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert times.quadratic(None, 4, CPU).tolist() == [1, 0.5625, 0.25, 0.0625]


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Edm()], ids=type_name)
def test_log_snr_times_are_even_in_log_snr(schedule):
    gaps = log_snr(*schedule(times.log_snr_uniform(schedule, 10, CPU))).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(9))


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Edm()], ids=type_name)
def test_karras_times_have_karras_sigmas(schedule):
    signal, noise = schedule(times.karras(schedule, 12, CPU))
    sigma = (noise / signal).numpy()
    expected = (sigma[0] ** (1 / 7) + np.linspace(0, 1, 12) * (sigma[-1] ** (1 / 7) - sigma[0] ** (1 / 7))) ** 7
    np.testing.assert_allclose(sigma, expected, rtol=1e-6)
    ends = schedule(torch.tensor([1.0, 0.0], dtype=torch.float64))
    np.testing.assert_allclose(sigma[[0, -1]], (ends[1] / ends[0]).clamp(max=80).numpy(), rtol=1e-6)


def test_stated_times_are_those():
    assert times.stated(None, 2, CPU, [1, 0.6]).tolist() == [1, 0.6]
    for wrong in ([1, 0.6, 0.2], [0.6, 1], [1.2, 0.6]):
        with pytest.raises(UserError, match=r"must be sampler\.steps=2 falling times"):
            times.stated(None, 2, CPU, wrong)


def test_with_edms_schedule_uniform_and_karras_are_the_same():
    torch.testing.assert_close(times.karras(Edm(), 18, CPU), times.uniform(Edm(), 18, CPU), atol=1e-6, rtol=0)
