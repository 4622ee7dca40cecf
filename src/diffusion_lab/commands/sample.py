"""`sample.py`: images from a checkpoint, one seed an image, as a grid and as one PNG each, and how they came about."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check
from diffusion_lab.commands.console import calls_progress, exit_on_user_error, short
from diffusion_lab.commands.evaluate import with_choices
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_lab.denoiser import Denoiser, Prediction

log = logging.getLogger(__name__)

FRAMES = 50  # of a GIF, at most


def sample_checkpoint(cfg: DictConfig, folder: str) -> None:
    """Draw `cfg.count` images from `cfg.checkpoint` into `folder`: grid.png, 00000.png and so on, and trajectory.gif."""
    run = Run(Path(folder))
    try:
        grid = exit_on_user_error(_sample, cfg, run)
    finally:
        run.remove_if_empty()
    print(f"{cfg.count} images and their grid: {short(grid)}")
    if cfg.gif:
        print(f"from noise to images: {short(grid.with_name('trajectory.gif'))}")


def _sample(cfg: DictConfig, run: Run) -> Path:
    check(cfg)
    from diffusion_lab.checkpoints import build_denoiser, load_checkpoint

    checkpoint = load_checkpoint(cfg.checkpoint)
    config = with_choices(checkpoint["config"], cfg)
    denoiser = build_denoiser({**checkpoint, "config": config}, tuple(cfg.trusted))
    labels = _labels(cfg.label, cfg.count, config["network"].get("num_classes", 0))

    import torch
    from hydra.utils import instantiate
    from torchvision.utils import save_image

    from diffusion_lab.experiments.pictures import save_gif, save_grid
    from diffusion_lab.hardware import autocast, choose_precision, keep_freed_memory, pick_device
    from diffusion_lab.sampling.draw import draw

    keep_freed_memory()
    device = pick_device(cfg.accelerator)
    context = autocast(choose_precision(cfg.precision, device), device)
    size = config["data"]["image_size"]
    shape = (config["data"]["channels"], size, size)
    sampler, calls = instantiate(config["sampler"]), config["sampler"]["steps"]
    trajectory = Trajectory(denoiser, calls) if cfg.gif else None
    settings = (cfg.count, config["seed"], cfg.batch_size, labels, context)
    batches = draw(denoiser.to(device), sampler, shape, *settings, callback=trajectory)
    run.folder.mkdir(parents=True, exist_ok=True)
    images = []
    with calls_progress(denoiser, calls * -(-cfg.count // cfg.batch_size), "Drawing"):
        for batch in batches:
            for image in batch:
                save_image(image, run.folder / f"{len(images):05d}.png")
                images.append(image)
    if trajectory:
        save_gif([*trajectory.frames(), torch.stack(images)], run.folder / "trajectory.gif")
    return save_grid(torch.stack(images), run.folder / "grid.png")


class Trajectory:
    """A sampler's callback that keeps what it is called with, in pixel values: at most FRAMES of `calls`, evenly."""

    def __init__(self, denoiser: Denoiser, calls: int):
        self.denoiser, self.every = denoiser, -(-calls // FRAMES)
        self.batches: dict[int, list[Tensor]] = {}

    def __call__(self, call: int, noisy: Tensor, prediction: Prediction) -> None:
        from diffusion_lab.experiments.pictures import unit_scale

        if call % self.every == 0:
            self.batches.setdefault(call, []).append(self.denoiser.to_pixels(unit_scale(noisy)).cpu())

    def frames(self) -> list[Tensor]:
        """All images (N, C, H, W) at each of the calls."""
        import torch

        return [torch.cat(self.batches[call]) for call in sorted(self.batches)]


def _labels(label: int | None, count: int, classes: int):
    """`label` for every image, or each class in turn where there are classes; -1 draws without a label."""
    import torch

    if label is None:
        return torch.arange(count) % classes if classes else None
    if not isinstance(label, int) or not -1 <= label < classes:
        known = f"0 to {classes - 1}, or -1 for none" if classes else "none: it was trained without labels"
        raise UserError(f"label={label} is not a class of this checkpoint ({known})")
    return torch.full((count,), label)
