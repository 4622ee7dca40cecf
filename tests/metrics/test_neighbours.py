"""Against the definitions, from scikit-learn's neighbours in float64."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from diffusion_lab.metrics.neighbours import density_coverage, precision_recall


@pytest.fixture(scope="module")
def features() -> tuple[torch.Tensor, torch.Tensor]:
    """Generated ones lie in a corner of the real ones, and a few far away."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(120, 6, generator=generator)
    generated = torch.cat([torch.randn(80, 6, generator=generator) * 0.6 + 0.5, torch.full((10, 6), 9.0)])
    return real, generated


def inside(of: torch.Tensor, others: torch.Tensor, k: int) -> np.ndarray:
    """(len(of), len(others)): whether each of the others lies in the ball of each of `of`."""
    of, others = of.double().numpy(), others.double().numpy()
    radius = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(of).kneighbors(of)[0][:, k]
    return np.linalg.norm(of[:, None] - others[None], axis=2) < radius[:, None]


def test_precision_and_recall_are_the_definitions(features):
    real, generated = features
    precision, recall = precision_recall(real, generated, k=3)
    assert precision == pytest.approx(inside(real, generated, 3).any(0).mean())
    assert recall == pytest.approx(inside(generated, real, 3).any(0).mean())
    assert 0.5 < precision < 1
    assert 0.2 < recall < 0.95


def test_density_and_coverage_are_the_definitions(features):
    real, generated = features
    density, coverage = density_coverage(real, generated, k=5)
    within = inside(real, generated, 5)
    assert density == pytest.approx(within.sum() / (5 * len(generated)))
    assert coverage == pytest.approx(within.any(1).mean())


def test_coverage_of_images_alike_is_what_the_paper_says(features):
    """Its mean is 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)), whatever the distribution, and density's is 1."""
    found = []
    for seed in range(40):
        drawn = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed))
        found.append(density_coverage(drawn[:100], drawn[100:], k=5))
    expected = 1 - np.prod([(100 - i) / (200 - i) for i in range(1, 6)])
    density, coverage = np.mean(found, 0)
    assert coverage == pytest.approx(expected, abs=0.012)
    assert density == pytest.approx(1, abs=0.05)


def test_a_handful_of_images_lowers_k():
    few = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert precision_recall(few, few) == (1, 1)
    assert density_coverage(few, few)[1] == 1
