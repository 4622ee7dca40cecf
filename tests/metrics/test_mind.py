import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from diffusion_lab.metrics.mind import SEED, mind


def test_of_shifted_images_it_is_three_times_the_squared_shift():
    """The projections are moved by u.s, and the mean of (u.s)^2 over directions is |s|^2 / D."""
    real = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 4.0, 0, 0, 0, 0, 0, 0])
    assert mind(real, real + shift, directions=20000) == pytest.approx(3 * 25, rel=0.03)


def test_of_normal_ones_it_is_the_closed_form():
    """Of N(0, 1) and N(0, s^2) in each direction: the squared Wasserstein-2 distance is (s - 1)^2."""
    generator = torch.Generator().manual_seed(0)
    real, generated = torch.randn(3000, 5, generator=generator), 2 * torch.randn(3000, 5, generator=generator)
    assert mind(real, generated, directions=300) == pytest.approx(3 * 5, rel=0.06)


def test_one_direction_at_a_time_sorting_is_optimal_transport():
    """Against SciPy's Wasserstein-1 distance of the same projections, of the same transport plan."""
    generator = torch.Generator().manual_seed(3)
    real, generated = torch.randn(40, 4, generator=generator), torch.randn(60, 4, generator=generator).abs()
    vectors = torch.randn(4, 1, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    x, y = ((part[:40].double() @ vectors).numpy()[:, 0] / vectors.norm().item() for part in (real, generated))
    plan = np.sort(x) - np.sort(y)
    assert np.abs(plan).mean() == pytest.approx(wasserstein_distance(x, y))
    assert mind(real, generated, directions=1) == pytest.approx(3 * 4 * (plan**2).mean())
