"""`sample.py`: images from a checkpoint, one seed an image, as a grid and as one PNG each, and how they came about."""

from __future__ import annotations

import logging
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.console import calls_progress, exit_on_user_error, short
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import check_ours, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_lab.conditions import Classes
    from diffusion_lab.denoiser import Denoiser, Prediction
    from diffusion_lab.sampling.drawing import Drawing

log = logging.getLogger(__name__)

MARK = "sample.json"  # beside the images: how they were drawn
FRAMES = 50  # of a GIF, at most


def sample_checkpoint(cfg: DictConfig, folder: str) -> None:
    """Draw `cfg.count` images from `cfg.checkpoint` into `folder`: grid.png, 00000.png and so on, sample.json, and
    trajectory.gif."""
    run = Run(Path(folder))
    try:
        count, grid = exit_on_user_error(_sample, cfg, run)
    finally:
        run.remove_if_empty()
    print(f"{count} images and their grid: {short(grid)}")
    if cfg.gif:
        print(f"from noise to images: {short(grid.with_name('trajectory.gif'))}")


def _sample(cfg: DictConfig, run: Run) -> tuple[int, Path]:
    """How many images were drawn, and their grid."""
    check(cfg)
    check_ours(run.folder, ("grid.png", "00000.png", "trajectory.gif"), MARK)
    from diffusion_lab.commands.opened import drawing_of, open_model
    from diffusion_lab.experiments.pictures import save_gif, save_grid
    from diffusion_lab.pretrained.pipeline import Pipeline

    scales = _columns(cfg)
    opened, config = open_model(cfg)
    if isinstance(opened, Pipeline):
        opened.check_draws(cfg.label)
    steps, scales = config["sampler"]["steps"], scales or [config["guidance"]["scale"]]
    drawing = drawing_of(opened, config, cfg)
    labels, per_class = _labels(drawing, cfg.label, cfg.count, len(scales) > 1)
    guided = {each: drawing.guided(scale=each) for each in scales}
    trajectory = Trajectory(drawing.denoiser, steps) if cfg.gif else None
    drawn = _draw(cfg, drawing, guided, labels, trajectory, steps + drawing.enlarging_steps)
    asked = {"seed": cfg.seed, "label": plain(cfg)["label"], "steps": steps, "scales": scales, "model": plain(cfg)["model"]}
    write_json(run.folder / MARK, {**asked, "sampler": config["sampler"]})
    for each, images in drawn.items():
        _save(images, run.folder / f"scale_{each:g}" if len(scales) > 1 else run.folder)
    if trajectory:
        save_gif([*trajectory.frames(), *drawn.values()], run.folder / "trajectory.gif")
    count, grid = sum(map(len, drawn.values())), run.folder / "grid.png"
    if len(scales) > 1:
        return count, _save_columns(drawn, drawing.conditions, labels, grid)
    names = drawing.conditions.names if per_class else ()
    return count, save_grid(*drawn.values(), grid, per_class, rows=names)


def _columns(cfg: DictConfig) -> list[float] | None:
    """The scales of `guidance.scale=[...]`, of which the first is left in the config; None where it is no list."""
    scales = cfg.guidance.scale
    if not isinstance(scales, ListConfig):
        return None
    cfg.guidance.scale = scales[0]
    return list(scales)


def _draw(
    cfg: DictConfig, drawing: Drawing, guided: dict[float, Denoiser], labels: Tensor | None, callback, steps: int
) -> dict[float, Tensor]:
    """The images (N, C, H, W) of each guided denoiser, from the same noise."""
    import torch

    count = cfg.count if labels is None else len(labels)
    calls = steps * -(-count // cfg.batch_size) * len(guided)
    with calls_progress(drawing.denoisers, calls, "Drawing"):
        return {
            scale: torch.cat([*drawing.images(count, labels, cfg.batch_size, denoiser, callback)])
            for scale, denoiser in guided.items()
        }


def _save(images: Tensor, folder: Path) -> None:
    from torchvision.utils import save_image

    folder.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        save_image(image, folder / f"{i:05d}.png")


def _save_columns(drawn: dict[float, Tensor], conditions: Classes, labels: Tensor | None, file: Path) -> Path:
    """A row an image, a column a scale."""
    import torch

    from diffusion_lab.experiments.pictures import save_strips

    rows = torch.stack([*drawn.values()], 1)
    said = [""] * len(rows) if labels is None else [f"\n{shorten(conditions.name(int(row)), 24)}" for row in labels]
    names = [f"image {i}{text}" for i, text in enumerate(said)]
    return save_strips(dict(zip(names, rows, strict=True)), [f"scale {scale:g}" for scale in drawn], file)


class Trajectory:
    """A sampler's callback that keeps what it is called with, in pixel values: at most FRAMES of `calls`, evenly."""

    def __init__(self, denoiser: Denoiser, calls: int):
        self.denoiser, self.every = denoiser, -(-calls // FRAMES)
        self.batches: dict[int, list[Tensor]] = {}

    def __call__(self, call: int, noisy: Tensor, prediction: Prediction) -> None:
        from diffusion_lab.experiments.pictures import unit_scale

        if call % self.every == 0:
            self.batches.setdefault(call, []).append(self.denoiser.space.decode(unit_scale(noisy)).cpu())

    def frames(self) -> list[Tensor]:
        """All images (N, C, H, W) at each of the calls."""
        import torch

        return [torch.cat(self.batches[call]) for call in sorted(self.batches)]


def _labels(drawing: Drawing, label: int | str | None, count: int, one_each: bool) -> tuple[Tensor | None, int | None]:
    """The label of each image, and, for `label=all`, how many images there are of each class, in its row of the grid.

    None takes each class in turn, where there are classes; -1 draws without a label.
    """
    import torch

    classes = len(drawing.conditions)
    if label == "all" and classes:
        per_class = 1 if one_each else max(1, count // classes)
        return torch.arange(classes).repeat_interleave(per_class), per_class
    if label is None:
        return drawing.classes_in_turn(count), None
    return drawing.labels(label, count), None
