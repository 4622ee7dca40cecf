"""Which pixels of an image are to be made new."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size, sides


def mask(size: Size, file: str | None = None, box: Sequence[int] | None = None) -> np.ndarray:
    """A bool mask (height, width), true where to make new: where the picture in `file` is nearer to white than to black, or
    within `box`, [left, top, right, bottom] in pixels; the middle, half as wide and high, where neither is given.

    Raises:
        UserError: both are given, the file is no picture of the images' shape, the box is none within the image, or all or
            nothing is new.
    """
    if file is not None and box is not None:
        raise UserError("edit.mask and edit.box are two ways to say the same: give one of them")
    if file is not None:
        new = _of_file(size, file)
    else:
        height, width = sides(size)
        new = np.zeros((height, width), dtype=bool)
        middle = [width // 4, height // 4, width - width // 4, height - height // 4]
        left, top, right, bottom = _checked(size, box or middle)
        new[top:bottom, left:right] = True
    if new.all() or not new.any():
        given = f"edit.mask={file}" if file is not None else f"edit.box={list(box)}"
        raise UserError(f"{given} makes {'everything' if new.all() else 'nothing'} new: white is new, black stays")
    return new


def _of_file(size: Size, file: str) -> np.ndarray:
    height, width = sides(size)
    if not Path(file).is_file():
        raise UserError(f"edit.mask={file} is not a file")
    try:
        with Image.open(file) as picture:
            if picture.width * height != picture.height * width:
                shape = "square" if width == height else f"{width} wide for each {height} high"
                raise UserError(
                    f"edit.mask={file} is {picture.width} x {picture.height} px: it must be {shape}, as images are"
                )
            return np.asarray(picture.convert("L").resize((width, height), Image.Resampling.BOX)) > 127
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"edit.mask={file} cannot be read as an image") from error


def _checked(size: Size, box: Sequence[int]) -> Sequence[int]:
    height, width = sides(size)
    whole = len(box) == 4 and all(isinstance(edge, int) for edge in box)
    if not (whole and 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise UserError(f"edit.box={list(box)} must be [left, top, right, bottom], whole pixels within {width} x {height}")
    return box
