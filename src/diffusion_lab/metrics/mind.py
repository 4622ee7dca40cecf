"""MIND, the sliced Wasserstein distance of features: no covariance is estimated, so a thousand images go a long way."""

import torch
from torch import Tensor

from diffusion_lab.figures import MIND
from diffusion_lab.metrics.scoring import Scoring, measures

SEED = 0  # of the directions: every model is looked at from the same ones


def mind(real: Tensor, generated: Tensor, directions: int = 1000) -> float:
    """Monge Inception Distance (Berthet et al. 2026, arXiv:2605.06797): 3 D times the mean, over random directions, of the
    squared Wasserstein-2 distance between the projections, which sorting matches.

    Args:
        real, generated: features (N, D) and (M, D); of the more numerous ones the first are taken.
        directions: unit vectors, drawn evenly over the sphere. The paper's are 100 to 1,000.
    """
    count, width = min(len(real), len(generated)), real.shape[1]
    vectors = torch.randn(width, directions, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    vectors /= vectors.norm(dim=0)
    x, y = ((part[:count].double() @ vectors).sort(0).values for part in (real, generated))
    return 3 * width * (x - y).square().mean().item()


@measures(MIND)
def measure_mind(scoring: Scoring, directions: int = 1000) -> dict[str, float]:
    """`mind`."""
    return {"mind": mind(*scoring.features, directions)}
