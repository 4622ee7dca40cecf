"""Training images changed at random, and what was done to them: functions of images (B, C, H, W) to (images, shown).

`shown` (B, numbers) tells the network, all zeros where nothing was done, so that drawing, which shows zeros, gives images
like those that were not changed: the changes do not leak (Jun et al. 2020, "Distribution augmentation for generative
modeling"). None: there is nothing to tell.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The 12 taps of the wavelet sym6 (Daubechies 1992, "Ten lectures on wavelets", sec. 8.1.1). An image made twice as large
# with them, and then as small again, is the same, for the taps and their moves by two, four ... are orthonormal.
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466),
    *(0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578),
    *(0.0017677118642428036, -0.007800708325034148),
)


def nothing(images: Tensor) -> tuple[Tensor, None]:
    """The images as they are."""
    return images, None


def edm(
    images: Tensor, probability: float = 0.12, scale: float = 0.2, stretch: float = 0.2, move: float = 0.125
) -> tuple[Tensor, Tensor]:
    """EDM's non-leaking augmentation (Karras et al. 2022, arXiv:2206.00364, appendix F.2).

    Images are mirrored left to right half of the time; and, each with `probability`, mirrored upside down half of that time,
    scaled, rotated, stretched along one direction and squeezed across it, and moved, in this order. What lies outside of an
    image is its reflection.

    Args:
        probability: of each change but the mirroring left to right.
        scale, stretch: deviations of the binary logarithm of the sizes.
        move: deviation, in images' sides.

    Returns:
        The images, and 9 numbers for each: whether mirrored left to right, and upside down; the scaling in deviations;
        cosine of the rotation - 1, and its sine; the stretching in deviations, times cosine and sine of its direction (so
        that squeezing along the opposite direction looks the same, as in the paper); the move right and down in deviations.
    """
    count, device = len(images), images.device

    def maybe(values: Tensor) -> Tensor:
        chosen = torch.rand(count, device=device) < probability
        return torch.where(chosen, values, 0.0)

    def normal() -> Tensor:
        return torch.randn(count, device=device)

    def angle() -> Tensor:
        return (2 * torch.rand(count, device=device) - 1) * math.pi

    mirrored = (torch.rand(count, device=device) < 0.5).float()
    upside_down = maybe((torch.rand(count, device=device) < 0.5).float())
    scaled, rotated, stretched, direction = maybe(normal()), maybe(angle()), maybe(normal()), angle()
    moves = torch.rand(count, device=device) < probability
    right, down = torch.where(moves, torch.randn(2, count, device=device), 0.0)
    matrix = torch.eye(2, device=device) * torch.exp2(scale * scaled)[:, None, None]
    matrix = rotation(rotated) @ matrix
    across = torch.stack([torch.exp2(stretch * stretched), torch.exp2(-stretch * stretched)], dim=1)
    matrix = rotation(direction) @ (across[:, :, None] * rotation(-direction)) @ matrix
    size = torch.tensor([images.shape[-1], images.shape[-2]], device=device)
    offset = move * size * torch.stack([right, down], dim=1)
    images = torch.where(mirrored.bool().view(-1, 1, 1, 1), images.flip(-1), images)
    images = torch.where(upside_down.bool().view(-1, 1, 1, 1), images.flip(-2), images)
    warp = (torch.stack([scaled, rotated, stretched, right, down]) != 0).any(0)
    images = _warped_where(warp, images, matrix, offset)
    shown = (
        *(mirrored, upside_down, scaled, rotated.cos() - 1, rotated.sin()),
        *(stretched * direction.cos(), stretched * direction.sin(), right, down),
    )
    return images, torch.stack(shown, dim=1)


def _warped_where(warp: Tensor, images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Those of the images that are to be, warped: two in five, which alone cost a processor something. A GPU, which would be
    waited for to count them, warps all."""
    if images.device.type != "cpu":
        return torch.where(warp.view(-1, 1, 1, 1), warped(images, matrix, offset), images)
    if not warp.any():
        return images
    images = images.clone()
    images[warp] = warped(images[warp], matrix[warp], offset[warp]).to(images.dtype)  # autocast warps in bf16
    return images


def rotation(angle: Tensor) -> Tensor:
    """Matrices (B, 2, 2) that turn (right, down) by `angle` (B,), in radians from right to down."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)


def warped(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Images (B, C, H, W) moved about: what is at p, in pixels from the centre, goes to matrix p + offset.

    They are looked up linearly in images of twice the side, made and taken back by a wavelet, so that little gets blurred
    (Karras et al. 2020, arXiv:2006.06676, appendix B). What lies outside is the reflection.

    Args:
        matrix: (B, 2, 2), invertible.
        offset: (B, 2), in pixels right and down.
    """
    channels, height, width = images.shape[1:]
    taps = torch.tensor(SYM6, device=images.device)
    delay = (taps * torch.arange(len(taps), device=images.device)).sum() / taps.sum()  # of a pixel in the larger image
    left, top = width - 1, height - 1  # margins: all that can be reflected
    margin = torch.tensor([left, top], device=images.device)
    across, along = (taps.view(1, 1, *shape).expand(channels, -1, -1, -1) for shape in ((1, -1), (-1, 1)))
    larger = F.pad(images, [left, left, top, top], mode="reflect")
    larger = F.conv_transpose2d(larger, math.sqrt(2) * across, stride=(1, 2), groups=channels)
    larger = F.conv_transpose2d(larger, math.sqrt(2) * along, stride=(2, 1), groups=channels)
    wanted = (2 * side + len(taps) - 2 for side in (width, height))  # places that the taps take back to so many pixels
    places = [(torch.arange(count, device=images.device) - delay) / 2 for count in wanted]
    places = torch.stack(torch.meshgrid(*places, indexing="xy"), dim=-1) - margin / 2  # in pixels from the centre
    source = (places - offset[:, None, None]) @ torch.linalg.inv(matrix).transpose(1, 2)[:, None]
    source = 2 * (source + margin / 2 + margin) + delay  # where that is in the larger image
    grid = 2 * source / (torch.tensor(larger.shape[:1:-1], device=images.device) - 1) - 1
    found = F.grid_sample(larger, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    found = F.conv2d(found, across / math.sqrt(2), stride=(1, 2), groups=channels)
    return F.conv2d(found, along / math.sqrt(2), stride=(2, 1), groups=channels)
