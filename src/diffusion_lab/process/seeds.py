"""Randomness that belongs to an image, not to a batch: image i has the same noise whatever the batch it is in."""

from collections.abc import Iterable

import torch
from torch import Tensor

GOLDEN_RATIO = 0.6180339887498949


def noise_of_images(seed: int, indices: Iterable[int], shape: tuple[int, ...], drawing: int = 0) -> Tensor:
    """Standard normal noise (len(indices), *shape) on the CPU; each image's from a generator of its own.

    Args:
        drawing: which of an image's unrelated noises, for samplers that want more than one.
    """
    generator, seed = torch.Generator(), _mix(seed, drawing)
    return torch.stack([torch.randn(shape, generator=generator.manual_seed(_mix(seed, int(i)))) for i in indices])


def times_of_images(indices: Tensor) -> Tensor:
    """A fixed time in [0, 1) for each image: the golden-ratio sequence, evenly spread over any run of indices."""
    return (indices.cpu().double() * GOLDEN_RATIO % 1).float()  # on the CPU: not every device has float64


def _mix(seed: int, index: int) -> int:
    """A 63-bit seed from two numbers (multiplication by odd constants), so that neighbours are unrelated."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 31)) % 2**63
