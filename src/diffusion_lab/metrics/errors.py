"""Denoising errors on held-out images, at times and noise that belong to each image."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.process.seeds import noise_of_images, times_of_images

SEED = 0  # fixed: every checkpoint is asked the same questions


class DenoisingErrors(NamedTuple):
    """Mean absolute errors of the two estimates for each image, (B,), in normalised space."""

    noise: Tensor
    image: Tensor


def denoising_errors(denoiser: Denoiser, pixels: Tensor, label: Tensor, index: Tensor) -> DenoisingErrors:
    """Errors of both estimates on uint8 `pixels` (B, C, H, W); `index` (B,) fixes each image's time and noise."""
    image = denoiser.normalise(pixels)
    noise = noise_of_images(SEED, index.tolist(), image.shape[1:]).to(image.device)
    time = times_of_images(index).to(image.device)
    signal_rate, noise_rate = denoiser.rates(time)
    estimate = denoiser(signal_rate * image + noise_rate * noise, time, label)
    return DenoisingErrors(
        noise=(estimate.noise - noise).abs().flatten(1).mean(1),
        image=(estimate.image - image).abs().flatten(1).mean(1),
    )


@torch.inference_mode()
def mean_denoising_errors(denoiser: Denoiser, batches, autocast) -> dict[str, float]:
    """`noise_loss` and `image_loss` over all of `batches` (of `diffusion_lab.data.images.Batch`)."""
    denoiser.eval()
    device = denoiser.mean.device
    with autocast:
        errors = [denoising_errors(denoiser, *(part.to(device) for part in batch)) for batch in batches]
    return {
        "noise_loss": torch.cat([error.noise for error in errors]).double().mean().item(),
        "image_loss": torch.cat([error.image for error in errors]).double().mean().item(),
    }
