"""Checkpoints on disk: written whole or not at all, with the one before kept."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor

from diffusion_lab.files import replacing

ONLY_TO_GO_ON = ("optimizer_states", "lr_schedulers", "current_model_state")  # the last: weights that are not averaged


class SafeCheckpoints(TorchCheckpointIO):
    """Writes beside the target and renames; Lightning's own writes below TMPDIR, and what it copies from there to another
    file system can be cut off. The last.ckpt of before stays as previous.ckpt. best.ckpt, which nothing goes on from, has no
    state of an optimizer."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        if path.name == "best.ckpt":
            checkpoint = {key: value for key, value in checkpoint.items() if key not in ONLY_TO_GO_ON}
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

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the best score of before, if the checkpoint that had it is in this folder: Lightning forgets it where
        the folder has another name now, and lets the first epoch that follows take the place of a better one."""
        file, score = f"{self.dirpath}/{self.filename}{self.FILE_EXTENSION}", state.get("best_model_score")
        if isinstance(score, Tensor) and score.ndim == 0 and Path(file).is_file():
            self.best_model_path = self.kth_best_model_path = file
            self.best_model_score = self.kth_value = score
            self.best_k_models = {file: score}

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Waits for a curve that is not measured each epoch, which Lightning takes for a mistake."""
        if self.monitor is None or self.monitor in monitor_candidates:
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _remove_checkpoint(self, trainer, filepath: str) -> None:
        pass


class KeptEvery(Checkpoint):
    """Keeps the checkpoint of every so many epochs beside the last one: epoch_0005.ckpt and so on, counted from 1."""

    def __init__(self, folder: Path, epochs: int):
        self.folder, self.epochs = folder, epochs

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.epochs == 0 and trainer.is_last_batch:
            trainer.save_checkpoint(self.folder / f"epoch_{epoch:04d}.ckpt")


def best_score(checkpoint: dict[str, Any], monitor: str) -> float | None:
    """The best value of `monitor` up to a checkpoint, from what Lightning keeps in it; None where it followed another."""
    callbacks = checkpoint.get("callbacks")
    states = [state for state in callbacks.values() if isinstance(state, dict)] if isinstance(callbacks, dict) else []
    kept = (state for state in states if state.get("monitor") == monitor)
    scores = (state.get("best_model_score") for state in kept)
    return next((float(score) for score in scores if isinstance(score, Tensor) and score.ndim == 0), None)
