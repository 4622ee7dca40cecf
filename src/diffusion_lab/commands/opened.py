"""A checkpoint opened for drawing: what `sample.py` and `edit.py` both begin with."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from diffusion_lab.checkpoints import build_denoiser, load_checkpoint
from diffusion_lab.commands.checks import classes_of
from diffusion_lab.commands.evaluate import with_choices
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.hardware import autocast, choose_precision, keep_freed_memory, pick_device


@dataclass(frozen=True)
class Opened:
    """A checkpoint's denoiser, ready to draw.

    Attributes:
        config: of its training, with what was chosen now in its place.
        denoiser: on the device, not guided.
        sampler: with its network calls.
        autocast: under which the network runs.
        trusted: packages whose classes a checkpoint may name.
    """

    config: dict
    denoiser: Denoiser
    sampler: Callable
    autocast: contextlib.AbstractContextManager
    trusted: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many labels can be asked for; 0 without any."""
        return classes_of(self.config)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image, (C, H, W)."""
        data = self.config["data"]
        return data["channels"], data["image_size"], data["image_size"]

    def guided(self, **changes) -> Denoiser:
        """The denoiser with the config's guidance, perhaps with another scale."""
        guidance = {**self.config["guidance"], **changes}
        if "checkpoint" in guidance:
            guidance["trusted"] = self.trusted
        return instantiate(guidance)(self.denoiser)

    def labels(self, label: int | Sequence[int], count: int) -> torch.Tensor | None:
        """`label`, one for all images or one each, as (count,).

        Raises:
            UserError: there is no such class, or there are not `count` of them.
        """
        labels = list(label) if isinstance(label, ListConfig | list) else [label] * count
        known = f"0 to {self.classes - 1}, or -1 for none" if self.classes else "none: it was trained without labels"
        for each in labels:
            if not isinstance(each, int) or isinstance(each, bool) or not -1 <= each < self.classes:
                raise UserError(f"label={each} is not a class of this checkpoint ({known})")
        if len(labels) != count:
            raise UserError(f"label={label} names {len(labels)} classes for {count} images")
        return torch.tensor(labels)


def open_checkpoint(cfg: DictConfig) -> Opened:
    """Read the checkpoint of a checked `cfg`, and put what `cfg` says in the place of what it was trained with.

    Raises:
        UserError: the file is no checkpoint of this project.
    """
    checkpoint = load_checkpoint(cfg.checkpoint)
    config = with_choices(checkpoint["config"], cfg)
    trusted = tuple(cfg.trusted)
    denoiser = build_denoiser({**checkpoint, "config": config}, trusted)
    keep_freed_memory()
    device = pick_device(cfg.accelerator)
    context = autocast(choose_precision(cfg.precision, device), device)
    return Opened(config, denoiser.to(device), instantiate(config["sampler"]), context, trusted)
