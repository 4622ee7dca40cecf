"""CMMD: a kernel that saturates between features of unit length, made for CLIP's, and nothing is assumed to be normal."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffusion_lab.figures import CMMD
from diffusion_lab.metrics.scoring import Scoring, measures

SCALE = 1000  # the authors', for readable numbers


def cmmd(real: Tensor, generated: Tensor, sigma: float = 10.0) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024, arXiv:2401.09603), biased as in the authors' code: 1,000
    times the squared distance of the two sets under the kernel exp(-|x - y|^2 / (2 sigma^2)).

    Args:
        real, generated: features (N, D) and (M, D), of any extractor; each is brought to length 1.
        sigma: the kernel's width. Features of length 1 are at most 2 apart, so that at the authors' 10 the kernel is nearly
            a parabola, and only the two sets' means are compared.
    """
    real, generated = (normalize(part.double()) for part in (real, generated))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp((x @ y.T - 1) / sigma**2).mean()

    return SCALE * (kernel(real, real) + kernel(generated, generated) - 2 * kernel(real, generated)).item()


@measures(CMMD)
def measure_cmmd(scoring: Scoring, sigma: float = 10.0) -> dict[str, float]:
    """`cmmd`."""
    return {"cmmd": cmmd(*scoring.features, sigma)}
