"""A model opened for drawing: what `sample.py` and `edit.py` both begin with."""

from omegaconf import DictConfig

from diffusion_lab.checkpoints import Checkpoint
from diffusion_lab.commands.choices import with_choices
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.hardware import keep_freed_memory, machine
from diffusion_lab.parts import build
from diffusion_lab.sampling.drawing import Drawing, drawing


def open_drawing(cfg: DictConfig, opened: Checkpoint | None = None) -> tuple[Drawing, dict]:
    """Open `cfg.model`, of a checked `cfg`, ready to draw; and the config of its training with what `cfg` says in its place.

    Args:
        opened: the model, where it is open already.

    Raises:
        UserError: there is no such model.
    """
    opened = opened or build(cfg.model, "model")
    config = with_choices(opened.config, cfg)
    keep_freed_memory()
    return drawing(config, opened.model(Denoiser), machine(cfg.accelerator, cfg.precision), cfg.trusted), config
