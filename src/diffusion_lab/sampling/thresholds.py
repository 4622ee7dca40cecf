"""Keeping a sampler's image estimates among possible pixels: functions of (image, denoiser) to the image.

Images are (B, C, H, W) in the denoiser's space. `static` and `dynamic` raise UserError where that has no bounds.
"""

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError


def none(image: Tensor, denoiser: Denoiser) -> Tensor:
    """The image as it is."""
    return image


def static(image: Tensor, denoiser: Denoiser) -> Tensor:
    """Clip to black and white (as the code of Ho et al. 2020, arXiv:2006.11239, does)."""
    return torch.clamp(image, *_bounds(denoiser))


def dynamic(image: Tensor, denoiser: Denoiser, quantile: float = 0.995, most: float | None = None) -> Tensor:
    """Clip at the given quantile of an image's own absolute values, counted from middle grey, then scale it back between
    black and white if that is beyond them (Saharia et al. 2022, arXiv:2205.11487, sec. 2.3).

    Args:
        most: where to clip at the farthest, as diffusers and DeepFloyd IF do; black and white lie at 1.
    """
    black, white = _bounds(denoiser)
    grey, half = (black + white) / 2, (white - black) / 2
    symmetric = (image - grey) / half
    limit = symmetric.flatten(1).abs().quantile(quantile, dim=1).clamp(1, most).view(-1, 1, 1, 1)
    symmetric = symmetric.clamp(-limit, limit) / limit
    return grey + half * symmetric


def _bounds(denoiser: Denoiser) -> tuple[Tensor, Tensor]:
    if denoiser.space.bounds is None:
        raise UserError("sampler/threshold=static and dynamic clip to black and white, which this model's space has not")
    return denoiser.space.bounds
