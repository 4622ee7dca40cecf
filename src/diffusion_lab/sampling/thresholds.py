"""Keeping a sampler's image estimates among possible pixels: functions of (image, denoiser) to the image.

Images are (B, C, H, W) in the denoiser's normalised space.
"""

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser


def none(image: Tensor, denoiser: Denoiser) -> Tensor:
    """The image as it is."""
    return image


def static(image: Tensor, denoiser: Denoiser) -> Tensor:
    """Clip to black and white (as the code of Ho et al. 2020, arXiv:2006.11239, does)."""
    return torch.clamp(image, -denoiser.mean / denoiser.std, (1 - denoiser.mean) / denoiser.std)


def dynamic(image: Tensor, denoiser: Denoiser, quantile: float = 0.995) -> Tensor:
    """Clip at the given quantile of an image's own absolute values, counted from middle grey, then scale it back between
    black and white if that is beyond them (Saharia et al. 2022, arXiv:2205.11487, sec. 2.3)."""
    symmetric = 2 * (image * denoiser.std + denoiser.mean) - 1
    limit = symmetric.flatten(1).abs().quantile(quantile, dim=1).clamp(min=1).view(-1, 1, 1, 1)
    symmetric = symmetric.clamp(-limit, limit) / limit
    return ((symmetric + 1) / 2 - denoiser.mean) / denoiser.std
