"""Sizes of images: one number of pixels for a square, or [height, width]."""

from collections.abc import Sequence

Size = int | tuple[int, int]


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) in pixels."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def size_text(size: int | Sequence[int]) -> str:
    """As it is said: 64, or 64 x 96, height first."""
    height, width = sides(size)
    return f"{height}" if height == width else f"{height} x {width}"
