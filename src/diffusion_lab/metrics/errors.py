"""Denoising errors on held-out images, at times and noise that belong to each image."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.figures import IMAGE_LOSS, NOISE_LOSS
from diffusion_lab.metrics.scoring import Scoring, measures
from diffusion_lab.process.seeds import noise_of_images, times_of_images

SEED = 0  # fixed: every checkpoint is asked the same questions


class DenoisingErrors(NamedTuple):
    """Mean absolute errors of the two estimates for each image, (B,), in the denoiser's space."""

    noise: Tensor
    image: Tensor


def denoising_errors(denoiser: Denoiser, pixels: Tensor, label: Tensor, index: Tensor) -> DenoisingErrors:
    """Errors of both estimates on uint8 `pixels` (B, C, H, W); `index` (B,) fixes each image's time and noise."""
    image = denoiser.space.encode(pixels)
    noise = noise_of_images(SEED, index.tolist(), image.shape[1:], device=image.device)
    time = times_of_images(index).to(image.device)
    estimate = denoiser(denoiser.noisy(image, noise, time), time, label)
    return DenoisingErrors(
        noise=(estimate.noise - noise).abs().flatten(1).mean(1),
        image=(estimate.image - image).abs().flatten(1).mean(1),
    )


@measures(NOISE_LOSS, IMAGE_LOSS)
@torch.inference_mode()
def measure_errors(scoring: Scoring) -> dict[str, float]:
    """`noise_loss` and `image_loss`, means over all held-out images; of the denoiser without guidance."""
    denoiser = scoring.denoiser.eval()
    with scoring.machine.autocast:
        errors = [denoising_errors(denoiser, *batch) for batch in scoring.batches()]
    return {
        "noise_loss": torch.cat([error.noise for error in errors]).double().mean().item(),
        "image_loss": torch.cat([error.image for error in errors]).double().mean().item(),
    }
