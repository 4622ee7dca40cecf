"""Train one denoiser with Lightning, then score and picture what was saved."""

from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from lightning.pytorch import Trainer
from torch import nn

from diffusion_lab.checkpoints import build_denoiser
from diffusion_lab.commands.console import calls_progress
from diffusion_lab.commands.loop import images_of, normalisation, precision_of, train_and_score
from diffusion_lab.commands.score import class_labels, draw_grid, score, scoring_calls
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Images, Split
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.experiments import pictures, tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import choose_compile, pick_device, training_layout
from diffusion_lab.training.callbacks import EveryNEpochs
from diffusion_lab.training.module import DiffusionTraining


def fit(config: dict, run: Run, network: nn.Module, decoded: Decoded) -> dict:
    """Train `network` as `config` says, from the last checkpoint where there is one; returns the run's results."""
    precision = precision_of(config)
    callbacks = [EveryNEpochs(config["grid"]["every_n_epochs"], partial(_log_grid, config, run, decoded, precision))]
    if config["metrics"]["every_n_epochs"]:
        callbacks.append(EveryNEpochs(config["metrics"]["every_n_epochs"], partial(_log_score, config, decoded, precision)))
    parts = partial(training_parts, config, network, decoded)
    return train_and_score(config, run, parts, callbacks, partial(_score, config, run, decoded, precision))


def training_parts(config: dict, network: nn.Module, decoded: Decoded) -> tuple[DiffusionTraining, Images]:
    """What Lightning trains, and on what."""
    images = images_of(config, decoded)
    device = pick_device(config["trainer"]["accelerator"])
    parts = (instantiate(config[part]) for part in ("schedule", "target", "level"))
    denoiser = Denoiser(network, *parts, *normalisation(config, images)).to(memory_format=training_layout(device))
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


def _score(config, run: Run, decoded: Decoded, precision: str, checkpoint: dict) -> tuple[nn.Module, dict, dict[str, Path]]:
    denoiser = build_denoiser(checkpoint, trusted=None).to(pick_device(config["trainer"]["accelerator"]))
    with calls_progress(denoiser, scoring_calls(config, decoded), "Scoring"):
        figures = score(config, decoded, denoiser, precision)
    return denoiser.network, figures, _final_pictures(config, run, decoded, precision, denoiser)


def _log_grid(config, run: Run, decoded: Decoded, precision: str, trainer: Trainer, denoiser: Denoiser, epoch: int) -> None:
    file = draw_grid(config, decoded, precision, denoiser, run.epoch_grid(epoch))
    tracking.log_image(trainer.loggers, "sample_grid", file, trainer.global_step - 1)
    batch = Split(decoded, decoded.held_out).__getitems__(range(min(5, len(decoded.held_out))))
    file = pictures.save_denoised(denoiser, batch.pixels, batch.label, run.epoch_denoised(epoch))
    tracking.log_image(trainer.loggers, "denoised", file, trainer.global_step - 1)


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
