"""Randomness that belongs to an image, not to a batch: image i has the same noise whatever the batch it is in."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

GOLDEN_RATIO = 0.6180339887498949
WORD = 2**32 - 1
AT_ONCE = 2**16  # counters: their words stay in a CPU's cache; a GPU takes more
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # of Philox4x32
WEYL = (0x9E3779B9, 0xBB67AE85)  # what its key grows by each turn


def noise_of_images(
    seed: int, indices: Iterable[int], shape: tuple[int, ...], drawing: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise (len(indices), *shape) on `device`; no two (seed, index, drawing) share any.

    It comes of a counter-based generator, whose key is the seed and whose counter holds the rest: so it is made on the
    device, many images at once, and is the same on every device but for rounding. `seed` counts modulo 2^64, indices and
    drawings modulo 2^32.

    Args:
        drawing: which of an image's unrelated noises, for samplers that want more than one.
    """
    size = math.prod(shape)
    blocks = torch.arange(-(-size // 4), device=device)[None]  # of four numbers each
    images = torch.tensor([int(index) % 2**32 for index in indices], dtype=torch.int64).to(device)[:, None]
    rest = [torch.full((1, 1), number, dtype=torch.int64, device=device) for number in (drawing % 2**32, 0)]
    noise = torch.empty(len(images), size, device=device)
    most = AT_ONCE if noise.device.type == "cpu" else 256 * AT_ONCE
    for part, rows in zip(*(each.split(max(1, most // blocks.shape[1])) for each in (noise, images)), strict=True):
        words = philox((blocks, rows, *rest), (seed % 2**32, seed // 2**32 % 2**32))
        numbers = [*gaussian_pair(words[0], words[1]), *gaussian_pair(words[2], words[3])]
        part.copy_(torch.cat(numbers, dim=1)[:, :size])
    return noise.view(-1, *shape)


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", sec. 4.3): four unrelated words of
    32 bits for each counter of four words, under a key of two. Words are int64 tensors that fit one another.
    """
    c0, c1, c2, c3 = counter
    for turn in range(10):
        k0, k1 = ((word + turn * step) & WORD for word, step in zip(key, WEYL, strict=True))
        # The product of two words wraps around in 64 bits with its sign, and both halves are right all the same.
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> 32 & WORD) ^ c1 ^ k0, second & WORD, (first >> 32 & WORD) ^ c3 ^ k1, first & WORD
    return [c0, c1, c2, c3]


def gaussian_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal numbers of two words of 32 bits (Box and Muller 1958), float32."""
    radius = (-2 * ((first.float() + 0.5) / 2**32).log()).sqrt()
    angle = second.float() * (2 * math.pi / 2**32)
    return radius * angle.cos(), radius * angle.sin()


def mixed(*numbers: int) -> int:
    """A seed for torch's generators from several numbers, unrelated for neighbours (NumPy's SeedSequence).

    32 bits: all that torch's CPU generator heeds of a seed. Further zeros make another seed: SeedSequence heeds them in its
    spawn key, and not at the end of its entropy.
    """
    first, *rest = numbers
    return int(np.random.SeedSequence(first, spawn_key=rest).generate_state(1)[0])


def times_of_images(indices: Tensor) -> Tensor:
    """A fixed time in [0, 1) for each image: the golden-ratio sequence, evenly spread over any run of indices."""
    return (indices.cpu().double() * GOLDEN_RATIO % 1).float()  # on the CPU: not every device has float64
