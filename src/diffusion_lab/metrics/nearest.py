"""The training images that drawn ones are nearest to."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.data.cache import Decoded

CHUNK = 1024  # training images at a time
SIDE = 32  # pixels: larger images are averaged down to it before all are compared with all
MOST_COMPARED = 2**30  # bytes of training images that others are compared with


class Nearest(NamedTuple):
    """The two training images nearest to each of N images, the nearest first: distances (N, 2), and rows (N, 2) among the
    decoded images."""

    distance: Tensor
    row: Tensor

    @property
    def ratio(self) -> Tensor:
        """How far the nearest is, as a share of how far the second nearest is, (N,)."""
        return self.distance[:, 0] / self.distance[:, 1].clamp(min=1e-12)


def nearest(images: Tensor, decoded: Decoded) -> tuple[Tensor, Tensor]:
    """The training image nearest to each of uint8 images (N, C, H, W), pixel by pixel.

    Returns:
        Those images, uint8 (N, C, H, W), and the distances (N,): the root of the mean square, of pixel values from 0 to 1.
    """
    wanted = images.flatten(1).float() / 255
    distances = []
    for positions in np.array_split(decoded.train, max(1, len(decoded.train) // CHUNK)):
        theirs = torch.from_numpy(decoded.images[positions]).permute(0, 3, 1, 2).flatten(1).float() / 255
        distances.append(torch.cdist(wanted, theirs, compute_mode="donot_use_mm_for_euclid_dist"))
    distance, index = torch.cat(distances, 1).min(1)
    found = torch.from_numpy(decoded.images[decoded.train[index.numpy()]]).permute(0, 3, 1, 2)
    return found, distance / wanted.shape[1] ** 0.5


def two_nearest(images: Tensor, decoded: Decoded) -> Nearest:
    """The two training images nearest to each of uint8 images (N, C, H, W), by their pixels, averaged down to SIDE."""
    wanted = _small(images)
    centre = wanted.mean(0)  # near which float32 has the digits that small distances need
    distance, row = torch.full((len(images), 2), torch.inf), torch.zeros(len(images), 2, dtype=torch.int64)
    for positions in np.array_split(decoded.train, max(1, len(decoded.train) // CHUNK)):
        theirs = _small(torch.from_numpy(decoded.images[positions]).permute(0, 3, 1, 2))
        found = torch.cat([distance, torch.cdist(wanted - centre, theirs - centre)], 1)
        rows = torch.cat([row, torch.from_numpy(positions).expand(len(images), -1)], 1)
        distance, index = found.topk(2, largest=False)
        row = rows.gather(1, index)
    return Nearest(distance, row)


def _small(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) to float32 (N, D), values from 0 to 1."""
    height, width = (min(side, SIDE) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images.float() / 255, (height, width)).flatten(1)
