"""Train one denoiser with Lightning, then score and picture what was saved."""

import logging
import multiprocessing
import platform
import sys
import time
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, Timer
from torch import Tensor, nn

from diffusion_lab.checkpoints import build_denoiser, has_averaged_weights, load_checkpoint
from diffusion_lab.commands.console import calls_progress
from diffusion_lab.commands.score import class_labels, draw_grid, score, scoring_calls
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Images, Split
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.experiments import pictures, tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import choose_compile, choose_precision, keep_freed_memory, pick_device, training_layout
from diffusion_lab.training.callbacks import EpochLine, EveryNEpochs, ProgressBar, Throughput
from diffusion_lab.training.module import DiffusionTraining

log = logging.getLogger(__name__)


def fit(config: dict, run: Run, network: nn.Module, decoded: Decoded) -> dict:
    """Train `network` as `config` says, from the last checkpoint where there is one; returns the run's results."""
    quiet_lightning()
    keep_freed_memory()
    device = pick_device(config["trainer"]["accelerator"])
    precision = choose_precision(config["trainer"]["precision"], device)
    started = load_checkpoint(run.last_checkpoint)["global_step"] if run.last_checkpoint.is_file() else None
    if started is not None:
        log.info("going on from the checkpoint after step %d", started)
    loggers = [tracking.metrics_csv(run, started), instantiate(config["logger"])(run, config)]
    loggers = [logger for logger in loggers if logger]
    failed = True
    try:
        _train(config, run, network, decoded, precision, loggers, resume=started is not None)
        checkpoint = load_checkpoint(run.last_checkpoint)
        loggers[0] = tracking.metrics_csv(run, checkpoint["global_step"])  # processes of their own may have written it
        denoiser = build_denoiser(checkpoint, trusted=None).to(device)
        began = time.perf_counter()
        with calls_progress(denoiser, scoring_calls(config, decoded), "Scoring"):
            figures = score(config, decoded, denoiser, precision)
        results = {
            **figures,
            "weights": "averaged" if has_averaged_weights(checkpoint) else "last",
            **_cost(config, decoded, checkpoint, denoiser),
            "precision": precision,
            "choices": config["choices"],
            "versions": _versions(),
        }
        for key, file in _final_pictures(config, run, decoded, precision, denoiser).items():
            tracking.log_image(loggers, key, file, checkpoint["global_step"])
        results["score_seconds"] = time.perf_counter() - began
        tracking.log_summary(loggers, run, results, checkpoint["global_step"])
        failed = False
    finally:
        tracking.close(loggers, failed)
    return results


def _train(config, run, network, decoded, precision, loggers, resume: bool) -> None:
    """Run Lightning's loop; what it leaves is the last checkpoint."""
    module, images = training_parts(config, network, decoded)
    callbacks = [EveryNEpochs(config["grid"]["every_n_epochs"], partial(_log_grid, config, run, decoded, precision))]
    if config["metrics"]["every_n_epochs"]:
        callbacks.append(EveryNEpochs(config["metrics"]["every_n_epochs"], partial(_log_score, config, decoded, precision)))
    callbacks += standard_callbacks(config, run)
    settings = {**config["trainer"], "precision": precision, "enable_progress_bar": _is_watched()}
    trainer: Trainer = instantiate(settings, callbacks=callbacks, logger=loggers, default_root_dir=str(run.folder))
    trainer.fit(module, datamodule=images, ckpt_path=run.last_checkpoint if resume else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt


def training_parts(config: dict, network: nn.Module, decoded: Decoded) -> tuple[DiffusionTraining, Images]:
    """What Lightning trains, and on what."""
    images = Images(decoded, config["batch_size"], config["data"]["repeat"], config["data"]["flip"], config["seed"])
    device = pick_device(config["trainer"]["accelerator"])
    parts = (instantiate(config[part]) for part in ("schedule", "target", "level"))
    denoiser = Denoiser(network, *parts, *_normalisation(config, images)).to(memory_format=training_layout(device))
    module = DiffusionTraining(
        denoiser,
        *(instantiate(config[part]) for part in ("loss", "weighting", "times", "optimizer", "learning_rate")),
        label_dropout=config["label_dropout"],
        seed=config["seed"],
        config=config,
        vlb_weight=config["variance"]["vlb_weight"],
        vlb_steps=config["variance"]["steps"],
        compiled=choose_compile(config["compile"], device),
    )
    return module, images


def _normalisation(config: dict, images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, as `pixels` says or as measured."""
    mean, std = config["pixels"]["mean"], config["pixels"]["std"]
    if mean is None:
        return images.train.statistics()
    ones = torch.ones(config["data"]["channels"])
    return mean * ones, std * ones


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


def _log_grid(config, run: Run, decoded: Decoded, precision: str, trainer: Trainer, denoiser: Denoiser, epoch: int) -> None:
    file = draw_grid(config, decoded, precision, denoiser, run.epoch_grid(epoch))
    tracking.log_image(trainer.loggers, "sample_grid", file, trainer.global_step - 1)


def _log_score(config, decoded: Decoded, precision: str, trainer: Trainer, denoiser: Denoiser, epoch: int) -> None:
    results = score(config, decoded, denoiser, precision)
    for logger in trainer.loggers:
        logger.log_metrics({f"val/{key}": results[key] for key in ("kid", "kid_std", "fid")}, trainer.global_step - 1)


def _final_pictures(config, run: Run, decoded: Decoded, precision: str, denoiser: Denoiser) -> dict[str, Path]:
    sampler, label = instantiate(config["sampler"]), class_labels(config, 1)
    pixels = Split(decoded, decoded.held_out).__getitems__([0]).pixels[0]
    reverse = run.samples / "reverse.png"
    return {
        "final_samples": draw_grid(config, decoded, precision, denoiser, run.final_grid),
        "forward_process": pictures.save_forward_process(denoiser, pixels, run.samples / "forward.png"),
        "reverse_process": pictures.save_reverse_process(
            denoiser, sampler, decoded.image_shape, config["seed"], label, reverse
        ),
    }


def _cost(config: dict, decoded: Decoded, checkpoint: dict, denoiser: Denoiser) -> dict:
    seconds = checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"]  # of all sessions of a resumed run
    images = checkpoint["epoch"] + 1
    images *= len(decoded.train) * config["data"]["repeat"]
    return {
        "parameters": sum(parameter.numel() for parameter in denoiser.network.parameters()),
        "epochs": checkpoint["epoch"] + 1,
        "steps": checkpoint["global_step"],
        "train_seconds": seconds,
        "train_images_per_second": images / seconds,
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
