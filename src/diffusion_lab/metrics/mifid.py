"""MiFID: FID that a model cannot lower by drawing its training images again."""

import hashlib

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffusion_lab.data.images import Split, batches_of
from diffusion_lab.figures import MIFID, TRAINING_DISTANCE, TRAINING_DISTANCE_HELD_OUT
from diffusion_lab.metrics.features import cached_features
from diffusion_lab.metrics.quality import fid
from diffusion_lab.metrics.scoring import Scoring, measures

CHUNK = 1024  # training images at a time


def training_distance(features: Tensor, training: Tensor) -> float:
    """How far images are from the training image that is nearest to each, on average: 1 - |cos| of the angle between their
    features (Bai et al. 2021, arXiv:2106.03062). 0: all are copies.

    Args:
        features, training: (N, D) and (T, D).
    """
    features = normalize(features.double())
    closest = torch.zeros(len(features), dtype=torch.float64)
    for part in training.split(CHUNK):
        closest = torch.maximum(closest, (features @ normalize(part.double()).T).abs().amax(1))
    return (1 - closest).mean().item()


def mifid(fid: float, distance: float, threshold: float) -> float:
    """Memorisation-informed FID (Bai et al. 2021): FID over the distance, where that is below the threshold."""
    return fid / max(distance, 1e-14) if distance < threshold else fid


@measures(MIFID, TRAINING_DISTANCE, TRAINING_DISTANCE_HELD_OUT, fewest=2)
def measure_mifid(scoring: Scoring, threshold: float | None = None) -> dict[str, float]:
    """`mifid`, `training_distance` of the drawn images, and the base line `training_distance_held_out`.

    Args:
        threshold: 0.1 in the paper, of Inception's features; None: half of the base line, whatever the extractor.
    """
    real, generated = scoring.features
    training = _training_features(scoring)
    drawn, held_out = training_distance(generated, training), training_distance(real, training)
    return {
        "mifid": mifid(fid(real, generated), drawn, held_out / 2 if threshold is None else threshold),
        "training_distance": drawn,
        "training_distance_held_out": held_out,
    }


def _training_features(scoring: Scoring) -> Tensor:
    """Of all training images (T, D): extracted once, and kept."""
    decoded, extractor = scoring.decoded, scoring.extractor.to(scoring.machine.device)
    positions = hashlib.sha256(decoded.train.tobytes()).hexdigest()[:8]
    pixels = (batch.pixels for batch in batches_of(Split(decoded, decoded.train), scoring.batch_size))
    return cached_features(pixels, extractor, f"{decoded.key}-{positions}-train", scoring.cache_dir)
