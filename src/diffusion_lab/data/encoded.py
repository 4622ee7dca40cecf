"""Images encoded once, for trainings in a latent space, into an array on disk that every later run maps into memory."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch, Images, Split, batches_of
from diffusion_lab.data.kept import Growing, kept

AT_ONCE = 64


def encoded(decoded: Decoded, encode: Callable[[Tensor], Tensor], name: str, mirrored: bool, cache_dir: str) -> Decoded:
    """The same with what `encode` makes of its images (N, h, w, numbers), float32, from the cache if it is there; and, where
    they may be flipped, with what it makes of their mirror images behind, (N, h, w, 2 * numbers).

    Args:
        encode: uint8 pixels (B, C, H, W) to (B, numbers, h, w).
        name: of that; equal names encode alike.
    """
    folder = Path(cache_dir).expanduser() / f"{decoded.key}-{name}{'-mirrored' * mirrored}"
    return replace(decoded, images=kept(folder, partial(_fill, decoded=decoded, encode=encode, mirrored=mirrored)).images)


def _fill(growing: Growing, decoded: Decoded, encode: Callable[[Tensor], Tensor], mirrored: bool) -> None:
    rest = np.arange(growing.done, len(decoded.images))
    if not len(rest):
        return
    batches = batches_of(Split(decoded, rest), AT_ONCE)
    shown = {"total": -(-len(rest) // AT_ONCE), "console": Console(stderr=True), "transient": True}
    for batch in track(batches, "Encoding images", **shown):
        ways = [batch.pixels, *([batch.pixels.flip(-1)] if mirrored else [])]
        codes = torch.cat([encode(pixels) for pixels in ways], 1).float().permute(0, 2, 3, 1).cpu().numpy()
        growing.add(codes, batch.label)


class EncodedImages(Images):
    """Training and held-out batches of images that are encoded already. A flipped one is encoded from its mirror image.

    Args:
        encoded: from `encoded`, with mirror images where `flip` is true.
        settings: of any Images but `shift`, for what is encoded of a shifted image is no shifted code.
    """

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Take the mirror images' codes where a flip would be."""
        if not self.flip:
            return batch
        plain, mirrored = batch.pixels.chunk(2, dim=1)
        if not self.trainer.training:
            return batch._replace(pixels=plain)
        chosen = torch.rand(len(plain), 1, 1, 1, device=plain.device) < 0.5
        return batch._replace(pixels=torch.where(chosen, mirrored, plain))
