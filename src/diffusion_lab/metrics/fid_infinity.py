"""FID as it would be of infinitely many images."""

import numpy as np
from torch import Tensor

from diffusion_lab.figures import FID_INFINITY
from diffusion_lab.metrics.quality import fid
from diffusion_lab.metrics.scoring import Scoring, measures


def fid_infinity(real: Tensor, generated: Tensor, seed: int, sizes: int = 15, smallest: float = 0.1) -> float:
    """FID extrapolated to infinitely many generated images (Chong and Forsyth 2020, arXiv:1911.07023, sec. 4): a line
    through the FIDs of random parts of them against 1 / images, where it meets 0.

    FID follows such a line where images are many more than features; with fewer the figure is lower than that, and may fall
    below 0. What the number of real images adds stays in it.

    Args:
        real, generated: features (N, D) and (M, D).
        seed: of the parts.
        sizes: how many parts, of evenly spaced sizes.
        smallest: the least of them, as a share of the generated images; the largest is all of them.
    """
    random = np.random.default_rng(seed)
    counts = np.linspace(max(2, smallest * len(generated)), len(generated), sizes).astype(int)
    found = [fid(real, generated[random.permutation(len(generated))[:count]]) for count in counts]
    return float(np.polynomial.Polynomial.fit(1 / counts, found, 1).convert().coef[0])


@measures(FID_INFINITY, fewest=20)
def measure_fid_infinity(scoring: Scoring, sizes: int = 15, smallest: float = 0.1) -> dict[str, float]:
    """`fid_infinity`."""
    return {"fid_infinity": fid_infinity(*scoring.features, scoring.seed, sizes, smallest)}
