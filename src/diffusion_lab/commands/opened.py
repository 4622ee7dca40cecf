"""A model opened for drawing: what `sample.py` and `edit.py` both begin with."""

from dataclasses import replace

from omegaconf import DictConfig

from diffusion_lab.checkpoints import Checkpoint
from diffusion_lab.commands.choices import with_choices
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.hardware import keep_freed_memory, machine
from diffusion_lab.parts import build
from diffusion_lab.pretrained.pipeline import Pipeline
from diffusion_lab.sampling.drawing import Drawing, drawing

Opened = Checkpoint | Pipeline


def open_model(cfg: DictConfig, opened: Opened | None = None) -> tuple[Opened, dict]:
    """Open `cfg.model`, of a checked `cfg`; and the config of its training with what `cfg` says in its place.

    A pretrained one's weights are not read yet, so that a mistake is answered before.

    Args:
        opened: the model, where it is open already.

    Raises:
        UserError: there is no such model, or it has no such labels.
    """
    opened = opened or build(cfg.model, "model")
    if isinstance(opened, Pipeline):
        opened.check_labels(cfg.get("label"))
    return opened, with_choices(opened.config, cfg)


def drawing_of(opened: Opened, config: dict, cfg: DictConfig) -> Drawing:
    """The model ready to draw."""
    keep_freed_memory()
    ready = drawing(config, opened.model(Denoiser), machine(cfg.accelerator, cfg.precision), cfg.trusted)
    if isinstance(opened, Pipeline):
        ready = replace(ready, sampler=opened.cascade(ready.sampler, ready.denoiser, config["sampler"].get("threshold")))
    return ready
