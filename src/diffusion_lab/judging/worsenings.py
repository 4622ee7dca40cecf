"""Known ways to make a set of real images worse, each in steps from hardly to plainly visible."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

Random = np.random.Generator
TILES = 4  # a side, of the jigsaw


@dataclass(frozen=True)
class Worsening:
    """One way.

    Attributes:
        steps: how much, rising.
        unit: what a step is, with {} for its number.
        number: that of a step.
        image: (uint8 pixels (N, C, H, W), labels (N,), step, random) to as many images, each worse; None: images stay.
        choose: (labels (N,), step, count, random) to rows (count,) of a set that is worse, though each of its images is as
            good as before, and how many images it was drawn from; None: any rows.
    """

    steps: tuple[float, ...]
    unit: str
    number: Callable[[float], str] = "{:.2g}".format
    image: Callable[[Tensor, np.ndarray, float, Random], Tensor] | None = None
    choose: Callable[[np.ndarray, float, int, Random], tuple[np.ndarray, int]] | None = None

    def text(self, step: float) -> str:
        """A step in words."""
        return self.unit.format(self.number(step))


def blur(pixels: Tensor, labels: np.ndarray, sigma: float, random: Random) -> Tensor:
    """A Gaussian of so many pixels' deviation."""
    return gaussian_blur(pixels, 2 * int(np.ceil(3 * sigma)) + 1, sigma)


def noise(pixels: Tensor, labels: np.ndarray, deviation: float, random: Random) -> Tensor:
    """Gaussian noise on each value, its deviation a share of white."""
    return _rounded(pixels + 255 * deviation * torch.from_numpy(random.standard_normal(pixels.shape, dtype=np.float32)))


def jpeg(pixels: Tensor, labels: np.ndarray, loss: float, random: Random) -> Tensor:
    """Saved as JPEG of quality 100 - `loss`, and read again."""

    def saved(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=round(100 - loss))
        return np.asarray(Image.open(file)).reshape(image.shape)

    images = np.stack([saved(image) for image in pixels.permute(0, 2, 3, 1).numpy()])
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def colours(pixels: Tensor, labels: np.ndarray, shift: float, random: Random) -> Tensor:
    """Red is raised and blue lowered by a share of white; grey is raised."""
    by = torch.tensor([1.0, 0.0, -1.0] if pixels.shape[1] == 3 else [1.0])
    return _rounded(pixels + 255 * shift * by.view(-1, 1, 1))


def jigsaw(pixels: Tensor, labels: np.ndarray, moved: float, random: Random) -> Tensor:
    """So many of the 16 tiles of each image are moved, in a circle. What a division by 4 leaves over stays."""
    found, (height, width) = pixels.clone(), (side // TILES for side in pixels.shape[2:])
    for image, source in zip(found, pixels, strict=True):
        chosen = [divmod(tile, TILES) for tile in random.permutation(TILES**2)[: int(moved)].tolist()]
        for (down, right), (from_down, from_right) in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
            there = source[:, from_down * height : (from_down + 1) * height, from_right * width : (from_right + 1) * width]
            image[:, down * height : (down + 1) * height, right * width : (right + 1) * width] = there
    return found


def ghosts(pixels: Tensor, labels: np.ndarray, share: float, random: Random) -> Tensor:
    """A share of another image shines through each, of another class where there are several."""
    others = random.permutation(len(pixels))
    for _ in range(20):
        same = (labels == labels[others]) & ((labels >= 0) | (others == np.arange(len(pixels))))
        others[same] = random.integers(0, len(pixels), same.sum())
    return _rounded((1 - share) * pixels.float() + share * pixels[torch.from_numpy(others)].float())


def dropped(labels: np.ndarray, share: float, count: int, random: Random) -> tuple[np.ndarray, int]:
    """Images of all classes but a share of them, always the same ones, and more with every step: which of them are dropped
    is not to be what sets differ by."""
    classes = np.random.default_rng(0).permutation(np.unique(labels[labels >= 0]))
    kept = np.flatnonzero(~np.isin(labels, classes[: max(1, round(share * len(classes)))]))
    return random.choice(kept, count, replace=len(kept) < count), len(kept)


def duplicates(labels: np.ndarray, share: float, count: int, random: Random) -> tuple[np.ndarray, int]:
    """A share of the images are others of the set once more."""
    rows = random.choice(len(labels), count, replace=False)
    rows[count - round(share * count) :] = random.choice(rows[: count - round(share * count)], round(share * count))
    return rows, len(labels)


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


WORSENINGS = {
    "blur": Worsening((0.4, 0.6, 0.9, 1.4), "{} px", image=blur),
    "noise": Worsening((0.02, 0.05, 0.1, 0.2), "{} of white", image=noise),
    "JPEG": Worsening((20, 50, 75, 90), "quality {}", lambda step: f"{100 - step:.0f}", image=jpeg),
    "colours": Worsening((0.02, 0.05, 0.1, 0.2), "{} of white", image=colours),
    "jigsaw": Worsening((2, 4, 8, 16), "{} of 16 tiles", "{:.1f}".format, image=jigsaw),
    "ghosts": Worsening((0.05, 0.1, 0.2, 0.4), "{} of another image", "{:.0%}".format, image=ghosts),
    "dropped classes": Worsening((0.1, 0.2, 0.3, 0.4), "{} of the classes", "{:.0%}".format, choose=dropped),
    "duplicates": Worsening((0.1, 0.25, 0.5, 0.75), "{} of the images", "{:.0%}".format, choose=duplicates),
}
