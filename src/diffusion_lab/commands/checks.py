"""Mistakes in a config that can be found without importing torch, each answered in one line."""

from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from diffusion_lab.errors import UserError

AT_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "count": 1,
    "data.image_size": 1,
    "data.repeat": 1,
    "data.max_images": 2,
    "metrics.samples": 2,
    "metrics.batch_size": 1,
    "metrics.every_n_epochs": 1,
    "metrics.vlb_calls": 1,
    "variance.steps": 2,
    "sampler.steps": 1,
    "grid.every_n_epochs": 1,
    "grid.count": 1,
}
CHOICES = {
    "data.on_error": ("raise", "skip"),
    "logger.mode": ("offline", "online", "disabled"),
    "data.channels": (1, 3, 4),
    "compile": ("auto", True, False),
    "sampler.variance": ("small", "large", "learned"),
    "sampler.order": (1, 2, 3),
    "objective": ("kid", "fid", "noise_loss", "image_loss"),
}


def check(cfg: DictConfig) -> None:
    """Raise UserError for a number out of range, an unknown word, or a data.root that does not exist."""
    for key, least in AT_LEAST.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UserError(f"{key}={value} must be a whole number, at least {least}")
    for key, choices in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in choices:
            raise UserError(f"{key}={value} must be one of {', '.join(map(str, choices))}")
    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise UserError("checkpoint=FILE is missing; a run's are in outputs/<name>/<run>/checkpoints/")
    _check_together(cfg)
    seed = cfg.get("seed")
    if seed is not None and (not isinstance(seed, int) or seed < 0):
        raise UserError(f"seed={seed} must be a whole number, at least 0")
    root = OmegaConf.select(cfg, "data.root")
    if root is not None and not Path(root).expanduser().is_dir():
        raise UserError(f"data.root={root} is not a folder")


def _check_together(cfg: DictConfig) -> None:
    """Raise UserError for choices that do not go together."""
    schedule, times = (OmegaConf.select(cfg, f"choices.{group}") for group in ("schedule", "times"))
    if schedule == "learned" and times not in ("uniform", "stratified"):
        raise UserError(f"schedule=learned finds the density of noise levels itself: take times=stratified, not {times}")
    if (OmegaConf.select(cfg, "pixels.mean") is None) != (OmegaConf.select(cfg, "pixels.std") is None):
        raise UserError("pixels.mean and pixels.std go together: set both, or neither to have them measured")
    sampler = cfg.get("sampler") or {}
    if sampler.get("variance") == "learned" and OmegaConf.select(cfg, "variance.outputs") == 1:
        raise UserError("sampler.variance=learned needs variance=learned: else the network predicts no variance")
    if "diffusers" in str(sampler.get("_target_")):
        if OmegaConf.is_missing(sampler, "name"):
            raise UserError("sampler.name=NAME is missing: a scheduler of diffusers, such as DEISMultistepScheduler")
        if sampler.get("times"):
            raise UserError(f"sampler/times does not go with sampler={sampler.name}: diffusers chooses the times itself")
        if not find_spec("diffusers"):
            raise UserError("sampler=unipc and sampler=diffusers need diffusers: pip install diffusers")


def plain(cfg: DictConfig) -> dict:
    """The resolved config as nested plain values, with data.root made absolute so that it means the same from anywhere."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    if config["data"].get("root"):
        config["data"]["root"] = str(Path(config["data"]["root"]).expanduser().resolve())
    return config
