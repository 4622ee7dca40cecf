"""Precision, recall, density and coverage: whether images lie where the others do, told by neighbours among features.

Fidelity and diversity are told apart by them, which KID and FID put into one number.
"""

import torch
from torch import Tensor
from torch_fidelity.metric_prc import calculate_precision_recall_full

from diffusion_lab.figures import COVERAGE, DENSITY, PRECISION, RECALL
from diffusion_lab.metrics.scoring import Scoring, measures


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, sec. 2), by torch-fidelity.

    Args:
        real, generated: features (N, D) and (M, D).
        k: each image's ball reaches to its k-th nearest neighbour of its own kind; to the last where there are fewer.

    Returns:
        Shares of the generated images that lie in a ball of a real one, and of the real ones in a ball of a generated one.
    """
    return calculate_precision_recall_full(generated.double(), real.double(), min(k, len(real) - 1, len(generated) - 1))


def density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797, sec. 3), which single outliers do not move.

    Args:
        real, generated, k: of `precision_recall`.

    Returns:
        In how many balls of real images a generated one lies, over k (1 where both are alike, and it may be more), and the
        share of the real images with a generated one in their ball.
    """
    real, generated, k = real.double(), generated.double(), min(k, len(real) - 1)
    radius = torch.cdist(real, real).kthvalue(k + 1).values  # the nearest is the image itself
    inside = torch.cdist(real, generated) < radius[:, None]
    return inside.double().sum(0).mean().item() / k, inside.any(1).double().mean().item()


@measures(PRECISION, RECALL, fewest=2)
def measure_precision_recall(scoring: Scoring, k: int = 3) -> dict[str, float]:
    """`improved_precision` and `improved_recall`: results.json has another `precision`, that of the arithmetic."""
    precision, recall = precision_recall(*scoring.features, k)
    return {"improved_precision": precision, "improved_recall": recall}


@measures(DENSITY, COVERAGE, fewest=2)
def measure_density_coverage(scoring: Scoring, k: int = 5) -> dict[str, float]:
    """`density` and `coverage`."""
    density, coverage = density_coverage(*scoring.features, k)
    return {"density": density, "coverage": coverage}
