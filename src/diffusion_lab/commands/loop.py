"""What every training shares: loggers, Lightning's loop, resuming, the figures of what was saved, and what it all cost."""

import logging
import multiprocessing
import platform
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, Timer
from torch import Tensor, nn

from diffusion_lab.checkpoints import has_averaged_weights, load_checkpoint
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Images
from diffusion_lab.experiments import tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import choose_precision, keep_freed_memory, pick_device
from diffusion_lab.training.callbacks import EpochLine, ProgressBar, Throughput
from diffusion_lab.training.module import Training

log = logging.getLogger(__name__)


def train_and_score(
    config: dict,
    run: Run,
    parts: Callable[[], tuple[Training, Images]],
    callbacks: list[Callback],
    score: Callable[[dict], tuple[nn.Module, dict, dict[str, Path]]],
) -> dict:
    """Train as `config` says, from the last checkpoint where there is one; returns the run's results.

    Args:
        parts: what Lightning trains, and on what.
        callbacks: of this kind of training, to stand before the standard ones.
        score: the last checkpoint to its network, its figures, and pictures by the names that loggers are to give them.
    """
    quiet_lightning()
    keep_freed_memory()
    started = load_checkpoint(run.last_checkpoint)["global_step"] if run.last_checkpoint.is_file() else None
    if started is not None:
        log.info("going on from the checkpoint after step %d", started)
    loggers = [tracking.metrics_csv(run, started), instantiate(config["logger"])(run, config)]
    loggers = [logger for logger in loggers if logger]
    failed = True
    try:
        images = _train(config, run, parts, callbacks, loggers, resume=started is not None)
        checkpoint = load_checkpoint(run.last_checkpoint)
        loggers[0] = tracking.metrics_csv(run, checkpoint["global_step"])  # processes of their own may have written it
        began = time.perf_counter()
        network, figures, drawn = score(checkpoint)
        results = {
            **figures,
            "weights": "averaged" if has_averaged_weights(checkpoint) else "last",
            **_cost(config, images, checkpoint, network),
            "precision": precision_of(config),
            "choices": config["choices"],
            "versions": _versions(),
        }
        for key, file in drawn.items():
            tracking.log_image(loggers, key, file, checkpoint["global_step"])
        results["score_seconds"] = time.perf_counter() - began
        tracking.log_summary(loggers, run, results, checkpoint["global_step"])
        failed = False
    finally:
        tracking.close(loggers, failed)
    return results


def _train(config: dict, run: Run, parts: Callable, callbacks: list[Callback], loggers: list, resume: bool) -> Images:
    """Run Lightning's loop; what it leaves is the last checkpoint."""
    module, images = parts()
    settings = {**config["trainer"], "precision": precision_of(config), "enable_progress_bar": _is_watched()}
    callbacks = [*callbacks, *standard_callbacks(config, run)]
    trainer: Trainer = instantiate(settings, callbacks=callbacks, logger=loggers, default_root_dir=str(run.folder))
    trainer.fit(module, datamodule=images, ckpt_path=run.last_checkpoint if resume else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return images


def standard_callbacks(config: dict, run: Run) -> list[Callback]:
    """Lightning's callbacks of every training: averaging, clocks, curves, checkpoints."""
    averaging = [instantiate(config["ema"])] if config["ema"] else []
    keep = {"dirpath": run.checkpoints, "save_on_train_epoch_end": True, "enable_version_counter": False}
    return [
        *averaging,
        Timer(),
        Throughput(),
        LearningRateMonitor(logging_interval="step"),
        ProgressBar() if _is_watched() else EpochLine(),
        ModelCheckpoint(filename="best", monitor=config["monitor"], **keep),
        ModelCheckpoint(filename="last", **keep),
    ]


def _is_watched() -> bool:
    """Whether a person looks at a terminal of this process alone, where a progress bar can be drawn."""
    return sys.stdout.isatty() and multiprocessing.current_process().name == "MainProcess"


def images_of(config: dict, decoded: Decoded) -> Images:
    """What a training is fed with."""
    data = config["data"]
    return Images(decoded, config["batch_size"], data["repeat"], data["flip"], config["seed"], data["shift"])


def normalisation(config: dict, images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, as `pixels` says or as measured."""
    mean, std = config["pixels"]["mean"], config["pixels"]["std"]
    if mean is None:
        return images.train.statistics()
    ones = torch.ones(config["data"]["channels"])
    return mean * ones, std * ones


def precision_of(config: dict) -> str:
    """Lightning's precision name that training and scoring run in."""
    return choose_precision(config["trainer"]["precision"], pick_device(config["trainer"]["accelerator"]))


def _cost(config: dict, images: Images, checkpoint: dict, network: nn.Module) -> dict:
    seconds = checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"]  # of all sessions of a resumed run
    epochs = checkpoint["epoch"] + 1
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": epochs,
        "steps": checkpoint["global_step"],
        "train_seconds": seconds,
        "train_images_per_second": epochs * len(images.train) / seconds,
        "seed": config["seed"],
    }


def _versions() -> dict:
    packages = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "wandb")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def quiet_lightning() -> None:
    """Say what happens in our own lines; Lightning's remarks on workers and loggers do not apply."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*Checkpoint directory .* exists.*", ".*smaller than the logging.*"):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", ".*Experiment logs directory.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
