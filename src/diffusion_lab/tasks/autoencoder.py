"""An autoencoder: to make images small, so that diffusion can happen there."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from diffusion_lab.autoencoder import Autoencoder
from diffusion_lab.data.images import Split, batches_of
from diffusion_lab.errors import UserError
from diffusion_lab.experiments import pictures, tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.metrics.reconstruction import FEWEST, reconstruction_figures
from diffusion_lab.parts import build
from diffusion_lab.spaces.pixels import Symmetric
from diffusion_lab.tasks.task import Outcome, Setting, Task
from diffusion_lab.training.autoencoder import AutoencoderTraining
from diffusion_lab.training.callbacks import EveryNEpochs
from diffusion_lab.training.module import Training

SHOWN = 8  # images in a picture


class AutoencoderTask(Task):
    """Learns to make images small and large again.

    Args:
        distance, perceptual, kl, adversarial: of an AutoencoderTraining.
    """

    kind = Autoencoder
    groups = ("task", "data", "network", "space")

    def __init__(self, distance: Callable, perceptual: float, kl: float, adversarial: float = 0.0):
        self.weights = {"distance": distance, "perceptual": perceptual, "kl": kl, "adversarial": adversarial}

    def training(self, model: Autoencoder, **settings) -> Training:
        return AutoencoderTraining(model, **self.weights, **settings)

    def check(self, model: Autoencoder, setting: Setting) -> None:
        if not isinstance(model.space, Symmetric):
            raise UserError("task=autoencoder takes images from -1 to 1: space=symmetric")
        if len(setting.decoded.held_out) < FEWEST:
            raise UserError(f"{len(setting.decoded.held_out)} held-out images are too few for KID, which needs {FEWEST}")

    def callbacks(self, setting: Setting) -> list[Callback]:
        return [EveryNEpochs(setting.config["grid"]["every_n_epochs"], GridOfEpoch(setting))]

    def outcome(self, model: Autoencoder, setting: Setting) -> Outcome:
        config, machine = setting.config, setting.machine
        held_out, model = Split(setting.decoded, setting.decoded.held_out), model.to(machine.device)

        def batches() -> Iterator[Tensor]:
            for batch in batches_of(held_out, config["metrics"]["batch_size"]):
                yield batch.pixels.to(machine.device)

        extractor = build(config["metrics"]["extractor"], "metrics.extractor").to(machine.device)
        results = reconstruction_figures(model, batches, extractor, config["seed"], machine.autocast)
        results |= {"held_out": setting.decoded.held_out_key, "protocol": config["metrics"]["protocol"]}
        results |= {"factor": model.network.factor, "latent_channels": model.network.latent_channels}
        return Outcome(results, pictures.drawn(reconstructed=lambda: draw(model, setting, setting.run.final_grid)))

    @staticmethod
    def end(run: Run, results: dict) -> dict[str, Path | str]:
        grid = {"grid": run.final_grid} if run.final_grid.is_file() else {}
        return {"checkpoint": run.last_checkpoint, **grid}

    @staticmethod
    def next(checkpoint: str) -> list[tuple[str, str]]:
        return [("train", f"space=latents space.autoencoder={checkpoint}")]


@torch.inference_mode()
def draw(model: Autoencoder, setting: Setting, file: Path) -> Path:
    """Held-out images above what becomes of them."""
    decoded = setting.decoded
    pixels = Split(decoded, decoded.held_out).__getitems__(range(min(SHOWN, len(decoded.held_out)))).pixels
    with setting.machine.autocast:
        made = model(pixels.to(model.device)).float().cpu()
    rows = ["held-out", "made of it"]
    return pictures.save_grid(torch.cat([pixels / 255, made]), file, columns=len(pixels), rows=rows)


class GridOfEpoch:
    """At the end of an epoch: held-out images, and what becomes of them."""

    def __init__(self, setting: Setting):
        self.setting = setting

    def __call__(self, trainer: Trainer, model: Autoencoder, epoch: int) -> None:
        file = self.setting.run.epoch_grid(epoch)
        for name, drawn in pictures.drawn(reconstructed=lambda: draw(model, self.setting, file)).items():
            tracking.log_image(trainer.loggers, name, drawn, trainer.global_step - 1)
