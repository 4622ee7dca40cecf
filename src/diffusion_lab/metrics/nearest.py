"""The training images that drawn ones are nearest to: whether they are copies is for the eye to say."""

import numpy as np
import torch
from torch import Tensor

from diffusion_lab.data.cache import Decoded

CHUNK = 1024  # training images at a time


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
