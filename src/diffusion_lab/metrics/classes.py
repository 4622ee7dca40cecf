"""KID of each class by itself: a model that draws one class badly, or another in its place, cannot hide it."""

import statistics

from torch import Tensor

from diffusion_lab.figures import KID_BY_CLASS
from diffusion_lab.metrics.quality import kid_per_batch
from diffusion_lab.metrics.scoring import Scoring, measures

FEWEST = 2  # real and generated images of a class: an unbiased estimate takes as many


def kid_of_classes(real: Tensor, generated: Tensor, real_labels: Tensor, labels: Tensor) -> dict[int, float]:
    """Unbiased KID of each class of which there are two images or more of both kinds, over as many as there are of both.

    Args:
        real, generated: features (N, D) and (M, D).
        real_labels, labels: their classes, (N,) and (M,); -1 is none.
    """
    found = {}
    for row in sorted(set(real_labels.tolist()) & set(labels.tolist()) - {-1}):
        theirs, ours = real[real_labels == row], generated[labels == row]
        if min(len(theirs), len(ours)) >= FEWEST:
            found[row] = kid_per_batch(theirs, ours, min(len(theirs), len(ours)))[0]
    return found


@measures(KID_BY_CLASS)
def measure_kid_by_class(scoring: Scoring) -> dict:
    """`kid_by_class`, the mean over the classes, `kid_by_class_std`, their deviation, and `kid_of_class`, each by its name;
    nothing where images have no classes."""
    real_labels = scoring.held_out.labels[scoring.held_out.positions]
    found = kid_of_classes(*scoring.features, real_labels.cpu(), scoring.labels.cpu())
    if not found:
        return {}
    names = scoring.decoded.class_names
    return {
        "kid_by_class": statistics.fmean(found.values()),
        "kid_by_class_std": statistics.pstdev(found.values()),
        "kid_of_class": {names[row]: value for row, value in found.items()},
    }
