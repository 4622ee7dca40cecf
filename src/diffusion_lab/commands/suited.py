"""What suits a folder of images where nothing else is typed: their size, and how long to train on them. Needs no torch."""

from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

from omegaconf import DictConfig, ListConfig

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import sides

SEEN = 150_000  # images, those of all epochs together
EPOCHS = (10, 1000)  # the fewest and the most
SCORED = 1000  # images drawn for the scores, where there are as many to compare with
LARGEST = 64  # pixels: larger ones want a GPU, and are asked for
LOOKED_AT = 100  # images, at the most, for their sizes


class Folder(NamedTuple):
    """How many images there are, and their size in the middle: as many are higher or wider as are not."""

    count: int
    height: int
    width: int


def suited_size(root: str | None) -> int:
    """Side in pixels: that of the images, up to LARGEST; a multiple of what the default network halves."""
    found = _folder(root)
    if found is None:
        return LARGEST
    short = min(found.height, found.width, LARGEST)
    return max(8, short // 4 * 4 if short < 48 else short // 8 * 8)


def suited_epochs(data: str, root: str | None, max_images: int | None, otherwise: int) -> int:
    """So many epochs of a folder's images that SEEN are seen; `otherwise` for another data set than `folder`."""
    found = _folder(root) if data == "folder" else None
    if found is None:
        return otherwise
    return min(max(round(SEEN / _kept(found, max_images)), EPOCHS[0]), EPOCHS[1])


def suited_samples(data: str | None, root: str | None, max_images: int | None, held_out: float | None) -> int:
    """So many images are drawn for the scores: SCORED, of a folder with few held out four times as many as those, and at
    least 100. More would make no figure surer, for there are not more to compare with."""
    found = _folder(root) if data == "folder" else None
    if found is None or not isinstance(held_out, int | float):
        return SCORED
    return min(max(4 * round(_kept(found, max_images) * held_out), 100), SCORED)


def _kept(found: Folder, max_images: int | None) -> int:
    return min(found.count, max_images) if isinstance(max_images, int) and max_images > 0 else found.count


def now_and_then(epochs: int) -> int:
    """After how many epochs pictures are drawn: ten times in a long training."""
    return max(5, epochs // 10) if isinstance(epochs, int) else 5


def where_larger(size, least: int, then, otherwise):
    """`then` for images whose shorter side has at least so many pixels."""
    try:
        chosen = then if min(sides(size)) >= least else otherwise
    except (TypeError, ValueError, IndexError):  # no size, which is said elsewhere
        chosen = otherwise
    return ListConfig(chosen) if isinstance(chosen, list) else chosen


def where_colour(channels, then, otherwise):
    """`then` for images of three channels or more, `otherwise` for grey ones; None, a checkpoint's own, where it is not
    known how many there are."""
    if channels is None:
        return None
    return then if isinstance(channels, int) and channels >= 3 else otherwise


def suited_patch(size, image_size) -> int:
    """Side of the squares that a network takes for one pixel: 4 of large images, 2 of others, 1 of latents, each of which
    stands for many pixels already."""
    try:
        if min(sides(size)) < min(sides(image_size)):
            return 1
    except (TypeError, ValueError, IndexError):  # no size, which is said elsewhere
        return 2
    return where_larger(size, 96, 4, 2)


def choices_said(cfg: DictConfig) -> str | None:
    """What was chosen for a folder, and why, in a line; None where everything was typed."""
    found = _folder(cfg.data.root) if cfg.data.name == "folder" else None
    if found is None:
        return None
    chosen = []
    if cfg.data._get_node("image_size")._is_interpolation():
        chosen.append(f"data.image_size={cfg.data.image_size}")
    if cfg._get_node("epochs")._is_interpolation() and not (cfg.steps or cfg.minutes):
        chosen.append(f"epochs={cfg.epochs} ({cfg.epochs * found.count:,} images seen)")
    if cfg.metrics._get_node("samples")._is_interpolation() and cfg.metrics.samples < SCORED:
        chosen.append(f"metrics.samples={cfg.metrics.samples}")
    if not chosen:
        return None
    return f"chosen for {found.count:,} images of about {found.width} x {found.height} px: {', '.join(chosen)}; type others"


def forget_folders() -> None:
    """Look anew: what a job finds is what is there when it begins."""
    _looked_at.cache_clear()


def _folder(root: str | None) -> Folder | None:
    return _looked_at(str(root)) if root else None


@cache
def _looked_at(root: str) -> Folder | None:
    """None where there is no such folder, or nothing in it that can be read, which is said elsewhere."""
    from PIL import Image

    from diffusion_lab.data.sources import images_under

    folder = Path(root).expanduser()
    try:
        names = images_under(folder)
    except UserError:
        return None
    found = []
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        try:
            with Image.open(folder / name) as image:
                found.append(image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    if not found:
        return None
    return Folder(len(names), *(int(median(size[axis] for size in found)) for axis in (1, 0)))
