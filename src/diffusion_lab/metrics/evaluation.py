"""All figures of one denoiser on one data set."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch, Split
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.metrics.errors import mean_denoising_errors
from diffusion_lab.metrics.features import cached_features, features_of
from diffusion_lab.metrics.labels import accuracy, reading, real_accuracy
from diffusion_lab.metrics.likelihood import mean_bits_per_dimension
from diffusion_lab.metrics.quality import fid
from diffusion_lab.sampling.draw import NetworkCalls, Sampler, draw

log = logging.getLogger(__name__)


def evaluate(
    denoiser: Denoiser,
    decoded: Decoded,
    guidance: Callable,
    sampler: Sampler,
    extractor: nn.Module,
    kid: Callable,
    protocol: str,
    samples: int,
    batch_size: int,
    seed: int,
    cache_dir: str,
    autocast: contextlib.AbstractContextManager,
    classifier: NoisyClassifier | None = None,
    vlb_calls: int | None = None,
    vlb_steps: int = 1000,
    vlb_large: bool = False,
) -> dict:
    """Score `denoiser` against the held-out images of `decoded`.

    Generated images carry the held-out images' labels in turn, where there are labels. They are rounded to 8 bit, as if
    saved and read again, before features are taken.

    Args:
        guidance: `denoiser` to the one that draws, see `diffusion_lab.sampling.guidance`; errors are of the unguided one.
        extractor: see `diffusion_lab.metrics.features`.
        kid: (real features, generated features, seed) to (mean, standard deviation).
        protocol: the name of that way to compute KID.
        samples: images to generate.
        batch_size: images at a time; fixed by the config, for float rounding depends on it.
        classifier: that reads the generated images, see `diffusion_lab.metrics.labels`.
        vlb_calls: network calls for each held-out image to estimate the variational bound by; None leaves it out.
        vlb_steps: that the bound is about.
        vlb_large: whether its steps have the large variance, where the network predicts none.

    Returns:
        noise_loss, image_loss, kid, kid_std, fid, and what they depend on; where asked for, also bits_per_dimension and its
        standard error, bits_per_dimension_error; and label_accuracy, the share of generated images that the classifier
        reads as the class they were asked to be, beside real_label_accuracy, the same of the held-out images.
    """
    split = Split(decoded, decoded.held_out)
    errors = mean_denoising_errors(denoiser, batches_of(split, batch_size), autocast)
    if vlb_calls:
        batches = batches_of(split, batch_size)
        bits, error = mean_bits_per_dimension(denoiser, batches, autocast, vlb_steps, vlb_calls, vlb_large)
        errors |= {"bits_per_dimension": bits, "bits_per_dimension_error": error}
    extractor = extractor.to(denoiser.mean.device)
    positions = hashlib.sha256(decoded.held_out.tobytes()).hexdigest()[:8]
    pixels = (batch.pixels for batch in batches_of(split, batch_size))
    real = cached_features(pixels, extractor, f"{decoded.key}-{positions}", cache_dir)
    labels = split.labels[split.positions]
    labels = labels[torch.arange(samples) % len(labels)]
    log.info("drawing %d images and scoring them against %d real ones (%s)", samples, len(real), extractor.identity)
    read = []
    with NetworkCalls(denoiser) as calls:
        images = draw(guidance(denoiser), sampler, decoded.image_shape, samples, seed, batch_size, labels, autocast)
        generated = features_of(reading(classifier, map(to_uint8, images), read), extractor)
    if classifier:
        errors |= {"label_accuracy": accuracy(read, labels)}
        errors |= {"real_label_accuracy": real_accuracy(classifier, batches_of(split, batch_size))}
    kid_mean, kid_std = kid(real, generated, seed)
    return {
        **errors,
        "kid": kid_mean,
        "kid_std": kid_std,
        "fid": fid(real, generated),
        "feature_extractor": extractor.identity,
        "extractor_resolution": extractor.resolution,
        "protocol": protocol,
        "samples": samples,
        "real_images": len(real),
        "network_calls": calls.count // samples,
    }


def batches_of(split: Split, batch_size: int) -> Iterator[Batch]:
    """The images of a split in order."""
    for indices in torch.arange(len(split.positions)).split(batch_size):
        yield split.__getitems__(indices)


def to_uint8(images: Tensor) -> Tensor:
    """Pixel values from 0 to 1 to 0..255, rounded."""
    return (images * 255).round().to(torch.uint8)
