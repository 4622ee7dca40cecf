"""`sample.py`: images from a checkpoint, one seed an image, as a grid and as one PNG each."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check
from diffusion_lab.commands.console import exit_on_user_error, short
from diffusion_lab.commands.evaluate import with_choices
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run

log = logging.getLogger(__name__)


def sample_checkpoint(cfg: DictConfig, folder: str) -> None:
    """Draw `cfg.count` images from `cfg.checkpoint` into `folder`: grid.png, 00000.png and so on."""
    run = Run(Path(folder))
    try:
        grid = exit_on_user_error(_sample, cfg, run)
    finally:
        run.remove_if_empty()
    print(f"{cfg.count} images and their grid: {short(grid)}")


def _sample(cfg: DictConfig, run: Run) -> Path:
    check(cfg)
    from diffusion_lab.checkpoints import build_denoiser, load_checkpoint

    checkpoint = load_checkpoint(cfg.checkpoint)
    config = with_choices(checkpoint["config"], cfg)
    denoiser = build_denoiser({**checkpoint, "config": config}, tuple(cfg.trusted))
    labels = _labels(cfg.label, cfg.count, config["data"]["num_classes"])

    import torch
    from hydra.utils import instantiate
    from rich.progress import track
    from torchvision.utils import save_image

    from diffusion_lab.experiments.pictures import save_grid
    from diffusion_lab.hardware import autocast, choose_precision, keep_freed_memory, pick_device
    from diffusion_lab.sampling.draw import draw

    keep_freed_memory()
    device = pick_device(cfg.accelerator)
    context = autocast(choose_precision(cfg.precision, device), device)
    size = config["data"]["image_size"]
    shape = (config["data"]["channels"], size, size)
    sampler = instantiate(config["sampler"])
    batches = draw(denoiser.to(device), sampler, shape, cfg.count, config["seed"], cfg.batch_size, labels, context)
    run.folder.mkdir(parents=True, exist_ok=True)
    images = []
    for batch in track(batches, "Drawing", total=-(-cfg.count // cfg.batch_size), transient=True):
        for image in batch:
            save_image(image, run.folder / f"{len(images):05d}.png")
            images.append(image)
    return save_grid(torch.stack(images), run.folder / "grid.png")


def _labels(label: int | None, count: int, classes: int):
    """`label` for every image, or each class in turn where there are classes; -1 draws without a label."""
    import torch

    if label is None:
        return torch.arange(count) % classes if classes else None
    if not isinstance(label, int) or not -1 <= label < classes:
        known = f"0 to {classes - 1}, or -1 for none" if classes else "none: it was trained without labels"
        raise UserError(f"label={label} is not a class of this checkpoint ({known})")
    return torch.full((count,), label)
