"""Ways to look at an image differently: rearrangements of its pixels, each with its way back.

Functions of images (B, C, H, W); `back=True` undoes the view. White noise stays white noise under all of them,
which is what lets a denoiser look both ways.
"""

import torch
from torch import Tensor

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import size_text


def flip(images: Tensor, back: bool = False) -> Tensor:
    """Upside down, as in water."""
    return images.flip(2)


def mirror(images: Tensor, back: bool = False) -> Tensor:
    """Left to right."""
    return images.flip(3)


def rotate(images: Tensor, back: bool = False, turns: int = 1) -> Tensor:
    """By `turns` quarters of a turn, anticlockwise.

    Raises:
        UserError: the images are not square, and a turn would change their shape.
    """
    if turns % 2:
        _check_square(images)
    return images.rot90(-turns if back else turns, (2, 3))


def transpose(images: Tensor, back: bool = False) -> Tensor:
    """Rows for columns.

    Raises:
        UserError: the images are not square.
    """
    _check_square(images)
    return images.transpose(2, 3)


def patches(images: Tensor, back: bool = False, across: int = 4, seed: int = 0) -> Tensor:
    """`across` x `across` patches, shuffled by `seed`: a jigsaw puzzle.

    Raises:
        UserError: the image does not divide into so many.
    """
    down, wide = (side // across for side in images.shape[2:])
    if any(side % across for side in images.shape[2:]):
        raise UserError(f"edit.view.across={across} does not divide images of {size_text(images.shape[2:])} px")
    order = torch.randperm(across**2, generator=torch.Generator().manual_seed(seed)).to(images.device)
    order = order.argsort() if back else order
    tiles = images.unfold(2, down, down).unfold(3, wide, wide).flatten(2, 3)[:, :, order]
    return tiles.unflatten(2, (across, across)).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _check_square(images: Tensor) -> None:
    if images.shape[2] != images.shape[3]:
        size = size_text(images.shape[2:])
        raise UserError(f"edit.view wants square images, and these are {size} px: take flip, mirror, rotate_180 or patches")
