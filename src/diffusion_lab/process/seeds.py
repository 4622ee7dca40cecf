"""Randomness that belongs to an image, not to a batch: image i has the same noise whatever the batch it is in."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

GOLDEN_RATIO = 0.6180339887498949


def noise_of_images(
    seed: int, indices: Iterable[int], shape: tuple[int, ...], drawing: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise (len(indices), *shape) on `device`; no two (seed, index, drawing) share any.

    Each image's is the stream of a counter-based generator (Philox4x64-10; Salmon et al. 2011, "Parallel random numbers: as
    easy as 1, 2, 3") whose key holds all three. `seed` counts modulo 2^64, indices and drawings modulo 2^32. It is made on
    the CPU, so that all devices draw from the same.

    Args:
        drawing: which of an image's unrelated noises, for samplers that want more than one.
    """
    keys = [(seed % 2**64, drawing % 2**32 << 32 | int(index) % 2**32) for index in indices]
    streams = (np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64))) for key in keys)
    noise = np.stack([stream.standard_normal(shape, dtype=np.float32) for stream in streams])
    return torch.from_numpy(noise).to(device)


def mixed(*numbers: int) -> int:
    """A seed for torch's generators from several numbers, unrelated for neighbours (NumPy's SeedSequence).

    32 bits: all that torch's CPU generator heeds of a seed.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def times_of_images(indices: Tensor) -> Tensor:
    """A fixed time in [0, 1) for each image: the golden-ratio sequence, evenly spread over any run of indices."""
    return (indices.cpu().double() * GOLDEN_RATIO % 1).float()  # on the CPU: not every device has float64
