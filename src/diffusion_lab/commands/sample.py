"""`sample.py`: images from a checkpoint, one seed an image, as a grid and as one PNG each, and how they came about."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.console import calls_progress, exit_on_user_error, short
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.reading import mapping_in
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import check_ours, write_json
from diffusion_lab.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_lab.conditions import Classes
    from diffusion_lab.denoiser import Denoiser, Prediction
    from diffusion_lab.sampling.drawing import Drawing

log = logging.getLogger(__name__)

MARK = "sample.json"  # beside the images: how they were drawn
FRAMES = 50  # of a GIF, at most
SHOWN = 1024  # images in a grid, at most
SHOWN_PIXELS = 2**24  # in all of them


def sample_checkpoint(cfg: DictConfig, folder: str) -> None:
    """Draw `cfg.count` images from `cfg.checkpoint` into `folder`: grid.png of the first, 00000.png and so on or
    samples.npz, sample.json, and trajectory.gif."""
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
    check_ours(run.folder, ("grid.png", "00000.png", "trajectory.gif", "samples.npz"), MARK)
    from diffusion_lab.commands.opened import drawing_of, open_model
    from diffusion_lab.experiments.pictures import save_gif, save_grid
    from diffusion_lab.pretrained.pipeline import Pipeline

    settings, scales = _settings(cfg), _columns(cfg)
    opened, config = open_model(cfg)
    if isinstance(opened, Pipeline):
        opened.check_draws(cfg.label)
    steps, scales = config["sampler"]["steps"], scales or [config["guidance"]["scale"]]
    drawing = drawing_of(opened, config, cfg)
    labels, per_class = _labels(drawing, cfg.label, cfg.count, len(scales) > 1)
    count = cfg.count if labels is None else len(labels)
    if count != cfg.count:
        each = f"{counted(per_class, 'image')} of each of {count // per_class} classes"
        log.info("label=all draws %s%s, not count=%d", each, " at each scale" if len(scales) > 1 else "", cfg.count)
    asked = {"seed": cfg.seed, "label": plain(cfg)["label"], "steps": steps, "scales": scales, "model": plain(cfg)["model"]}
    asked |= {"sampler": config["sampler"], "count": count, "settings": settings}
    work = Work(run.folder, asked, cfg.save_as, may_go_on=not cfg.gif)  # whose steps are not kept
    shown = _shown(drawing.denoiser.space.pixel_shape, count, per_class, len(scales))
    grid = run.folder / "grid.png"
    if work.is_done():
        log.info("these images are drawn already")
        return count * len(scales), grid
    trajectory = Trajectory(drawing.denoiser, steps, shown) if cfg.gif else None
    drawn = _draw(cfg, drawing, work, labels, trajectory, steps + drawing.enlarging_steps, shown)
    if len(scales) > 1:
        _save_columns(drawn, drawing.conditions, labels, grid)
    else:
        names = drawing.conditions.names[: shown // per_class] if per_class else ()
        save_grid(*drawn.values(), grid, per_class, rows=names)
    for files in work.files.values():
        files.finish(labels)
    if trajectory:
        save_gif([*trajectory.frames(), *drawn.values()], run.folder / "trajectory.gif")
    return count * len(scales), grid


def _settings(cfg: DictConfig) -> str:
    """What names all that the images depend on, and how they are written."""
    said = {key: value for key, value in plain(cfg).items() if key not in ("out", "trusted")}
    places = (
        said.get("checkpoint"),
        said["model"].get("path"),
        said["model"].get("lora"),
        said["guidance"].get("checkpoint"),
    )
    files = [Path(place).expanduser() for place in places if isinstance(place, str)]
    stats = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return hashlib.sha256(json.dumps([said, stats], sort_keys=True).encode()).hexdigest()[:12]


def _shown(shape: tuple[int, int, int], count: int, per_class: int | None, scales: int) -> int:
    """How many images the grid shows of each scale; of `label=all` whole rows."""
    most = max(1, min(SHOWN, SHOWN_PIXELS // math.prod(shape[1:])) // scales)
    return min(count, max(1, most // per_class) * per_class if per_class else most)


class Work:
    """A drawing in a folder, which goes on where one with the same settings was killed.

    Args:
        asked: what sample.json is to say of it.
        save_as: of FILES.
        may_go_on: false: it begins anew in any case.
    """

    def __init__(self, folder: Path, asked: dict, save_as: str, may_go_on: bool):
        from diffusion_lab.commands.bulk import FILES

        self.folder, self.asked, self.begun = folder, asked, False
        self.before = mapping_in(folder / MARK, json.loads) or {}
        self.goes_on = may_go_on and self.before.get("settings") == asked["settings"]
        self.files = {scale: FILES[save_as](place, self.goes_on) for scale, place in self._places(asked).items()}

    def _places(self, asked: dict) -> dict[float, Path]:
        scales = asked["scales"]
        return {scale: self.folder / f"scale_{scale:g}" if len(scales) > 1 else self.folder for scale in scales}

    def is_done(self) -> bool:
        whole = all(files.done >= self.asked["count"] for files in self.files.values())
        return whole and (self.folder / "grid.png").is_file()

    def begin(self) -> None:
        """Say whose images these are, and remove those of another drawing; when there are some, so that a mistake leaves
        the folder as it was."""
        from diffusion_lab.commands.bulk import remove_drawn

        if self.begun:
            return
        self.begun = True
        if not self.goes_on and "settings" in self.before:
            for place in self._places(self.before).values():
                remove_drawn(place, self.before["count"])
        write_json(self.folder / MARK, self.asked)


def _columns(cfg: DictConfig) -> list[float] | None:
    """The scales of `guidance.scale=[...]`, of which the first is left in the config; None where it is no list."""
    scales = cfg.guidance.scale
    if not isinstance(scales, ListConfig):
        return None
    cfg.guidance.scale = scales[0]
    return list(scales)


def _draw(
    cfg: DictConfig, drawing: Drawing, work: Work, labels: Tensor | None, callback, steps: int, shown: int
) -> dict[float, Tensor]:
    """Write the images of each scale, from the same noise; returns the first ones (N, C, H, W) of each."""
    import torch

    count, drawn = work.asked["count"], {}
    batches = -(-count // cfg.batch_size)
    behind = {scale: batches if each.done >= count else each.done // cfg.batch_size for scale, each in work.files.items()}
    if any(behind.values()):
        log.info("going on after %d of %d batches", sum(behind.values()), batches * len(behind))
    calls = steps * (batches * len(behind) - sum(behind.values()))
    with calls_progress(drawing.denoisers, calls, "Drawing"):
        for scale, files in work.files.items():
            rest, first = partial(_after, behind[scale]), behind[scale] * cfg.batch_size
            guided = drawing.guided(scale=scale)
            for images in drawing.images(count, labels, cfg.batch_size, guided, callback, rest):
                work.begin()
                files.add(images, first)
                first += len(images)
            drawn[scale] = torch.from_numpy(files.first(shown)).permute(0, 3, 1, 2) / 255
    return drawn


def _after(done: int, work: Callable, batches: Iterable) -> Iterator:
    """As `map`, without the first batches."""
    return map(work, islice(batches, done, None))


def _save_columns(drawn: dict[float, Tensor], conditions: Classes, labels: Tensor | None, file: Path) -> Path:
    """A row an image, a column a scale."""
    import torch

    from diffusion_lab.experiments.pictures import save_strips

    rows = torch.stack([*drawn.values()], 1)
    shown = [] if labels is None else labels[: len(rows)]
    said = [f"\n{shorten(conditions.name(int(row)), 24)}" for row in shown] or [""] * len(rows)
    names = [f"image {i}{text}" for i, text in enumerate(said)]
    return save_strips(dict(zip(names, rows, strict=True)), [f"scale {scale:g}" for scale in drawn], file)


class Trajectory:
    """A sampler's callback that keeps what it is called with, in pixel values: at most FRAMES of `calls`, evenly, of the
    first images."""

    def __init__(self, denoiser: Denoiser, calls: int, images: int):
        self.denoiser, self.every, self.images = denoiser, -(-calls // FRAMES), images
        self.batches: dict[int, list[Tensor]] = {}

    def __call__(self, call: int, noisy: Tensor, prediction: Prediction) -> None:
        from diffusion_lab.experiments.pictures import unit_scale

        kept = self.batches.setdefault(call, [])
        if call % self.every == 0 and sum(map(len, kept)) < self.images:
            kept.append(self.denoiser.space.decode(unit_scale(noisy)).cpu())

    def frames(self) -> list[Tensor]:
        """The images (N, C, H, W) at each of the calls."""
        import torch

        if not self.batches:
            raise UserError("gif=true shows what a sampler tells its `callback`, and this one tells none: leave it out")
        return [torch.cat(batches)[: self.images] for _, batches in sorted(self.batches.items()) if batches]


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
