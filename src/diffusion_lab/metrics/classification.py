"""How well a classifier reads noisy held-out images, at noise that belongs to each image."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.images import Batch
from diffusion_lab.figures import ACCURACY, CROSS_ENTROPY
from diffusion_lab.metrics.errors import SEED
from diffusion_lab.process.seeds import noise_of_images, times_of_images

TIMES = tuple(i / 8 for i in range(9))  # at which all images are read


class Reading(NamedTuple):
    """Of each image with a label, (N,): the cross-entropy in nats, and 1.0 where its class is the likeliest, else 0.0."""

    cross_entropy: Tensor
    accuracy: Tensor


def reading(classifier: NoisyClassifier, batch: Batch, time: float | None = None) -> Reading:
    """Read those images of `batch` that have a label, each at a fixed time of its own, or all at `time`."""
    pixels, label, index = batch
    image = classifier.space.encode(pixels)
    noise = noise_of_images(SEED, index.tolist(), image.shape[1:], device=image.device)
    times = (times_of_images(index) if time is None else torch.full((len(index),), time)).to(image.device)
    logits = classifier(classifier.noisy(image, noise, times), times)
    logits, label = logits[label >= 0], label[label >= 0]
    return Reading(F.cross_entropy(logits, label, reduction="none"), (logits.argmax(1) == label).float())


@torch.inference_mode()
def reading_figures(classifier: NoisyClassifier, batches: Callable[[], Iterable[Batch]], autocast) -> dict:
    """`cross_entropy` and `accuracy` over all of `batches()`, `accuracy_by_time` (time as a string to the accuracy there)
    , `real_images`, of how many images they are, and `figures`, what these are."""
    classifier.eval()
    device = classifier.device

    def read(time: float | None) -> Reading:
        with autocast:
            readings = [reading(classifier, Batch(*(part.to(device) for part in batch)), time) for batch in batches()]
        return Reading(*(torch.cat(parts).double() for parts in zip(*readings, strict=True)))

    own = read(None)
    return {
        "cross_entropy": own.cross_entropy.mean().item(),
        "accuracy": own.accuracy.mean().item(),
        "accuracy_by_time": {f"{time:g}": read(time).accuracy.mean().item() for time in TIMES},
        "real_images": len(own.accuracy),
        "figures": {figure.key: figure.plain() for figure in (CROSS_ENTROPY, ACCURACY)},
    }
