"""KID and FID between features of real and generated images, in float64: both are small differences of large sums.

Features are extracted once (see `features.py`). KID is torchmetrics', to which they are shown through an extractor that
hands them on; FID is written out, for there is a way to it that takes a fraction of the time.
"""

import logging
import math
import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from diffusion_lab.figures import FID, KID
from diffusion_lab.metrics.scoring import Scoring, measures

log = logging.getLogger(__name__)


class _Features(nn.Module):
    """Stands where torchmetrics expects the extractor, for images that are features already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def kid(real: Tensor, generated: Tensor, seed: int, subsets: int = 100, subset_size: int = 500) -> tuple[float, float]:
    """Kernel Inception Distance (Binkowski et al. 2018, arXiv:1801.01401, eq. 4), kernel (x.y / d + 1) ** 3, unbiased.

    Args:
        real, generated: features (N, D) and (M, D).
        seed: of the random subsets.
        subsets, subset_size: how many subsets, and images in each; lowered to half of the images where there are fewer
            than `subset_size` of them, and said so.

    Returns:
        Mean and standard deviation over the subsets.
    """
    fewest = min(len(real), len(generated))
    if fewest < subset_size:
        log.info("KID: %d images are fewer than subset_size=%d; subsets of %d are used", fewest, subset_size, fewest // 2)
        subset_size = fewest // 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _kid(real, generated, subsets, subset_size)


def kid_per_batch(real: Tensor, generated: Tensor, batch_size: int = 128) -> tuple[float, float]:
    """The reference system's protocol: unbiased KID of each batch of `batch_size`, in order, averaged. A last batch that is
    smaller is left out, where it is not the only one: its estimate would count as much, and is far less certain.

    Returns:
        Mean and standard deviation over the batches.
    """
    pairs = zip(real.split(batch_size), generated.split(batch_size), strict=False)
    sized = ((a[: len(b)], b[: len(a)]) for a, b in pairs)
    whole = [(a, b) for a, b in sized if len(a) == batch_size]
    whole = whole or [(real[: len(generated)], generated[: len(real)])]
    values = torch.tensor([_kid(a, b, subsets=1, subset_size=len(a))[0] for a, b in whole])
    return values.mean().item(), values.std(unbiased=False).item()


def kid_image_error(real: Tensor, generated: Tensor, seed: int, drawings: int = 200) -> float:
    """How much KID of as many other images of the same model would differ: the standard deviation of the unbiased estimate
    over all of them, of a bootstrap over the generated ones. An image never meets itself in it."""
    real, generated, width = real.double(), generated.double(), real.shape[1]
    among = (generated @ generated.T / width + 1) ** 3
    across = ((generated @ real.T / width + 1) ** 3).mean(1)
    random = torch.Generator().manual_seed(seed)
    count = len(generated)
    drawn = torch.randint(count, (drawings, count), generator=random)
    times = torch.zeros(drawings, count, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    times = times[times.max(1).values < count]  # of few images, one may have been drawn each time: it has no pair
    own = times.square() @ among.diagonal()
    pairs = ((times @ among * times).sum(1) - own) / (count**2 - times.square().sum(1))
    return (pairs - 2 * (times @ across) / count).std().item()


@measures(KID, fewest=4)  # subsets are of half of them, and an unbiased estimate takes two
def measure_kid(scoring: Scoring, subsets: int = 100, subset_size: int = 500) -> dict[str, float]:
    """`kid`, its standard deviation over the subsets, `kid_std`, and over other images of the model, `kid_image_error`."""
    mean, std = kid(*scoring.features, scoring.seed, subsets, subset_size)
    return {"kid": mean, "kid_std": std, "kid_image_error": kid_image_error(*scoring.features, scoring.seed)}


@measures(KID, fewest=2)
def measure_kid_per_batch(scoring: Scoring, batch_size: int = 128) -> dict[str, float]:
    """`kid` as the reference system has it, and its standard deviation over the batches, `kid_std`."""
    mean, std = kid_per_batch(*scoring.features, batch_size)
    return {"kid": mean, "kid_std": std}


@measures(FID, fewest=2)
def measure_fid(scoring: Scoring) -> dict[str, float]:
    """`fid`."""
    return {"fid": fid(*scoring.features)}


def fid(real: Tensor, generated: Tensor) -> float:
    """Frechet Inception Distance (Heusel et al. 2017, arXiv:1706.08500, eq. 6). Depends on the number of images.

    With centred features x and y, scaled so that the covariances are x^T x and y^T y, the trace of the root of their product
    is the sum of the singular values of x y^T: a matrix as large as the images are many, and no root is taken.
    """
    if not (real.isfinite().all() and generated.isfinite().all()):
        return math.nan
    real, generated = real.double(), generated.double()
    gap = (real.mean(0) - generated.mean(0)).square().sum()
    x, y = ((part - part.mean(0)) / math.sqrt(len(part) - 1) for part in (real, generated))
    roots = torch.linalg.svdvals(_thin(x) @ _thin(y).T).sum()
    return (gap + x.square().sum() + y.square().sum() - 2 * roots).item()


def _thin(x: Tensor) -> Tensor:
    """Rows no more than columns, of the same x^T x."""
    return torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x


def _kid(real: Tensor, generated: Tensor, subsets: int, subset_size: int) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "will save all extracted features in buffer": meant to
        metric = KernelInceptionDistance(
            _Features(real.shape[1]), subsets=subsets, subset_size=subset_size, sync_on_compute=False
        )
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    mean, std = metric.compute()
    return mean.item(), std.item()
