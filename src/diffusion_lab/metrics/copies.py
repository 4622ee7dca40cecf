"""Whether a model copies: draws training images again, rather than images like them."""

from collections.abc import Iterator

import torch
from scipy.stats import fisher_exact

from diffusion_lab.figures import COPIES, COPIES_HELD_OUT
from diffusion_lab.metrics.nearest import MOST_COMPARED, Nearest, two_nearest
from diffusion_lab.metrics.scoring import Scoring, measures

CLOSE = 1 / 3
SURE = 0.001  # how seldom chance alone may raise the alarm
MANY, TIMES = 0.1, 3  # a share that raises it too, if it is so many times the base line: of few images nothing is sure


def share_of_copies(found: Nearest) -> float:
    """The share of images whose nearest training image is less than a third as far as the second nearest (Yoon et al. 2023;
    Gu et al. 2023, arXiv:2310.02664, sec. 2)."""
    return (found.ratio < CLOSE).double().mean().item()


@measures(COPIES, COPIES_HELD_OUT, fewest=2)
def measure_copies(scoring: Scoring) -> dict[str, float]:
    """`copies`, and the base line: `copies_held_out`, the same of real images that were not trained on. Nothing where the
    training images are fewer than two, or take more than a gigabyte."""
    decoded = scoring.decoded
    if len(decoded.train) < 2 or decoded.images.nbytes >= MOST_COMPARED:
        return {}
    real = torch.cat([batch.pixels.cpu() for batch in scoring.batches()])
    return {"copies": share_of_copies(scoring.nearest), "copies_held_out": share_of_copies(two_nearest(real, decoded))}


def alarms(results: dict) -> Iterator[str]:
    """A sentence where drawn images are copies clearly more often than held-out ones would be: by Fisher's exact test,
    one-sided, at SURE, or because they are MANY."""
    if "copies" not in results:
        return
    pairs = ((results["copies"], results["samples"]), (results["copies_held_out"], results["real_images"]))
    counts = [[round(share * count), count - round(share * count)] for share, count in pairs]
    many = results["copies"] >= max(MANY, TIMES * results["copies_held_out"])
    if many or fisher_exact(counts, alternative="greater").pvalue < SURE:
        yield (
            f"copies: {counts[0][0]} of {results['samples']} drawn images are copies of training images; of "
            f"{results['real_images']} held-out ones {counts[1][0]} would be taken for such. Train shorter, on more "
            "images, with a smaller network or with augment=flip"
        )
