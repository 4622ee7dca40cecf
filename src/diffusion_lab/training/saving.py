"""Checkpoints on disk: written whole or not at all, with the one before kept."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

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


class Kept(ModelCheckpoint):
    """Of one name, so that each checkpoint takes the place of the one before. It removes nothing: what Lightning would
    remove is a path out of the file that a run goes on from, which may be another person's."""

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def _remove_checkpoint(self, trainer, filepath: str) -> None:
        pass
