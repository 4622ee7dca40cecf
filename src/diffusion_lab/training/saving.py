"""Checkpoints on disk: written whole or not at all, with the one before kept."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from diffusion_lab.files import replacing


class SafeCheckpoints(TorchCheckpointIO):
    """Writes beside the target and renames; Lightning's own writes below TMPDIR, and what it copies from there to another
    file system can be cut off. The last.ckpt of before stays as previous.ckpt."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        with replacing(path) as scratch:
            _save(checkpoint, scratch)
            if path.name == "last.ckpt" and path.is_file():
                path.replace(path.with_name("previous.ckpt"))


def _save(checkpoint: dict[str, Any], file: Path) -> None:
    """torch.save, with the OSError of a full disk as it is: torch itself says "unexpected pos 768 vs 662"."""
    try:
        with file.open("wb") as opened:
            torch.save(checkpoint, opened)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
