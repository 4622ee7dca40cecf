"""Ways to look at an image differently: rearrangements of its pixels, each with its way back.

Functions of images (B, C, H, W), H = W; `back=True` undoes the view. White noise stays white noise under all of them,
which is what lets a denoiser look both ways.
"""

import torch
from torch import Tensor

from diffusion_lab.errors import UserError


def flip(images: Tensor, back: bool = False) -> Tensor:
    """Upside down, as in water."""
    return images.flip(2)


def mirror(images: Tensor, back: bool = False) -> Tensor:
    """Left to right."""
    return images.flip(3)


def rotate(images: Tensor, back: bool = False, turns: int = 1) -> Tensor:
    """By `turns` quarters of a turn, anticlockwise."""
    return images.rot90(-turns if back else turns, (2, 3))


def transpose(images: Tensor, back: bool = False) -> Tensor:
    """Rows for columns."""
    return images.transpose(2, 3)


def patches(images: Tensor, back: bool = False, across: int = 4, seed: int = 0) -> Tensor:
    """`across` x `across` square patches, shuffled by `seed`: a jigsaw puzzle.

    Raises:
        UserError: the image does not divide into so many.
    """
    size = images.shape[-1]
    if size % across:
        raise UserError(f"edit.view.across={across} does not divide images of {size} px")
    order = torch.randperm(across**2, generator=torch.Generator().manual_seed(seed)).to(images.device)
    order = order.argsort() if back else order
    side = size // across
    tiles = images.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)[:, :, order]
    return tiles.unflatten(2, (across, across)).transpose(3, 4).flatten(4, 5).flatten(2, 3)
