"""`edit.py`: an edit of images, or for labels, with a checkpoint; its inputs, results and a labelled strip in one folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from diffusion_lab.commands.checks import check
from diffusion_lab.commands.console import calls_progress, exit_on_user_error, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import check_ours, write_json
from diffusion_lab.parts import build

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_lab.sampling.drawing import Drawing
    from diffusion_lab.sampling.edits import Needs

ROWS = 24  # of the strip, at most


class Result(NamedTuple):
    """Title to images (M, C, H, W), values from 0 to 1; what was measured, an image each; network calls an image."""

    pixels: dict[str, Tensor]
    figures: dict[str, list[float]]
    calls: float


class Inputs(NamedTuple):
    """Images to edit: uint8 pixels (N, C, H, W), their labels (N,) or None, and a name each; of how many that were named."""

    pixels: Tensor
    labels: Tensor | None
    names: list[str]
    found: int = 0


def edit_images(cfg: DictConfig, folder: str) -> None:
    """Edit `cfg.image` with `cfg.checkpoint` as `cfg.edit` says, into `folder`: strip.png, one PNG an image, edit.json."""
    run = Run(Path(folder))
    try:
        said = exit_on_user_error(_edit, cfg, run)
    finally:
        run.remove_if_empty()
    print("\n".join(said))


def _edit(cfg: DictConfig, run: Run) -> list[str]:
    check(cfg)
    check_ours(run.folder, ("strip.png",), "edit.json")
    from diffusion_lab.commands.opened import drawing_of, open_model
    from diffusion_lab.sampling.edits import needs_of

    opened, config = open_model(cfg)
    edit = edit_of(cfg, config)
    drawing = drawing_of(opened, config, cfg)
    inputs = inputs_of(cfg, needs_of(edit), drawing, config)
    result = edited(edit, drawing, inputs, cfg.batch_size)
    write_json(run.folder / "edit.json", {})  # until there are figures
    _write(run, result.pixels, inputs.names)
    _write_figures(cfg, config, run, inputs, result)
    return [_what(cfg, config, inputs, result.calls), *_said(run, result.figures)]


def edit_of(cfg: DictConfig, config: dict, given: bool = False) -> Callable:
    """The edit that `cfg` names, looked at before a pretrained model's weights are read.

    Args:
        given: whether images are there, that `cfg` does not name.

    Raises:
        UserError: it wants another sampler than that of `config`, or another kind of model; or the checkpoint cannot do it.
    """
    from diffusion_lab.sampling.edits import needs_of

    edit = build(cfg.edit, "edit", _convert_="all")
    needs = needs_of(edit)
    _check_few_steps(needs, config)
    _check_sampler(needs, config)
    if needs.pixels and (config["model"].get("space") or {}).get("_target_", "").endswith("Latents"):
        name = cfg.edit._target_.rsplit(".", 1)[-1]
        raise UserError(
            f"edit={name} turns, blurs or averages pixels, and this model draws latents, where that makes no image: take "
            "one of pixels, such as DeepFloyd IF"
        )
    if config["model"].get("enlarges") and not needs.small:
        raise UserError("model.path enlarges images: take edit=superres, or both stages, model.path=[STAGE_I,STAGE_II]")
    if config["model"].get("second") and needs.images:
        raise UserError("an edit of images is one stage's work: give model.path=STAGE_I, or STAGE_II for edit=superres")
    if needs.images and cfg.image is None and "path" in config["model"] and not given:
        raise UserError("image=FILE is missing: a pretrained model brings no images of its own")
    return edit


def edited(edit: Callable, drawing: Drawing, inputs: Inputs, batch_size: int) -> Result:
    """Do the edit, `batch_size` images at a time."""
    import torch

    from diffusion_lab.sampling.draw import NetworkCalls
    from diffusion_lab.sampling.edits import prepare

    denoiser, parts = drawing.guided(), []
    with (
        NetworkCalls(*drawing.denoisers) as calls,
        calls_progress(drawing.denoisers, None, "Editing"),
        torch.inference_mode(),
        drawing.machine.autocast,
    ):
        for indices in torch.arange(len(inputs.pixels)).split(batch_size):
            labels = None if inputs.labels is None else inputs.labels[indices]
            images = (inputs.pixels[indices], labels, drawing.seed, indices)
            parts.append(edit(prepare(denoiser, drawing.sampler, *images)))
    columns = {title: torch.cat([part.columns[title] for part in parts]) for title in parts[0].columns}
    for title, images in columns.items():
        if not images.isfinite().all():
            schedule = type(denoiser.schedule).__name__
            raise UserError(f"edit made numbers that are not finite ({title}, on {schedule}): did the training diverge?")
    pixels = {title: denoiser.space.decode(images).cpu() for title, images in columns.items()}
    if parts[0].kept is not None:
        *_, result = pixels
        pixels[result] = torch.where(parts[0].kept, inputs.pixels.cpu() / 255, pixels[result])
    figures = {name: torch.cat([part.figures[name] for part in parts]).tolist() for name in parts[0].figures}
    return Result(pixels, figures, calls.count / len(inputs.pixels))


def _check_sampler(needs: Needs, config: dict) -> None:
    sampler = config["sampler"]
    if needs.ddim and (not sampler["_target_"].endswith(".ddim") or sampler["eta"]):
        raise UserError("this edit goes back the way that DDIM came: take sampler=ddim, with sampler.eta=0")


def _check_few_steps(needs: Needs, config: dict) -> None:
    """Raise UserError where a checkpoint that was distilled to few steps knows less than the edit asks."""
    criterion, teacher, sampler = (config.get(group) or {} for group in ("criterion", "teacher", "sampler"))
    if criterion.get("_target_", "").endswith(".Consistency"):
        if needs.ddim:
            raise UserError(
                "this edit goes back the way through the noise, and the checkpoint, of experiment=consistency, knows its "
                "end only: take the one that it was tuned from"
            )
        if not sampler["_target_"].endswith(".consistency"):
            raise UserError(
                "the checkpoint, of experiment=consistency, jumps to the image at each call, and this sampler goes step by "
                "step: take sampler=consistency sampler.steps=8"
            )
    if teacher.get("_target_", "").endswith(".two_steps"):
        steps, spacing = teacher["steps"], (sampler.get("times") or {}).get("_target_", "")
        if needs.midway or sampler["steps"] != steps or not spacing.endswith(".trailing"):
            raise UserError(
                f"the checkpoint, of experiment=progressive_distillation, knows the times of {steps} even steps only: "
                f"take {'another checkpoint' if needs.midway else f'sampler=ddim sampler.steps={steps}'}"
            )


def inputs_of(cfg: DictConfig, needs: Needs, drawing: Drawing, config: dict) -> Inputs:
    """The images that `cfg` names, or of the checkpoint's data set, or blank ones for an edit that starts from nothing."""
    import torch

    if not needs.images:
        if cfg.image is not None:
            raise UserError("this edit draws from noise alone: it takes edit.labels, no image")
        blank = torch.zeros(cfg.count, *drawing.denoiser.space.pixel_shape, dtype=torch.uint8)
        labels = drawing.labels(-1, cfg.count) if len(drawing.conditions) else None
        return Inputs(blank, labels, [f"image {i}" for i in range(cfg.count)])
    found = _held_out(cfg, config) if cfg.image is None else _files(cfg, needs, drawing.denoiser.space.pixel_shape)
    if cfg.label is not None:
        found = found._replace(labels=drawing.labels(cfg.label, len(found.pixels)))
    elif cfg.prompt is not None:
        found = found._replace(labels=drawing.classes_in_turn(len(found.pixels)))
    return found if len(drawing.conditions) else found._replace(labels=None)


def _held_out(cfg: DictConfig, config: dict) -> Inputs:
    """The first held-out images of the data set that the checkpoint was trained on."""
    from diffusion_lab.data.images import Split

    data = config["data"]
    decoded = decode_source(data, open_source(data))
    indices = range(min(cfg.count, len(decoded.held_out)))
    batch = Split(decoded, decoded.held_out).__getitems__(list(indices))
    return Inputs(batch.pixels, batch.label, [f"held-out {i}" for i in indices])


def _files(cfg: DictConfig, needs: Needs, shape: tuple[int, int, int]) -> Inputs:
    """The images of `cfg.image`, files or folders: their middles, resized to `shape` (C, H, W)."""
    import numpy as np
    import torch

    from diffusion_lab.data.sources import IMAGE_SUFFIXES, images_under

    files, asked = [], list(cfg.image) if isinstance(cfg.image, ListConfig) else [cfg.image]
    if not asked or not all(isinstance(path, str) and path for path in asked):
        raise UserError(f"image={cfg.image} must be a file or a folder, or a list of them")
    for path in asked:
        found = [Path(path, name) for name in images_under(path)] if Path(path).is_dir() else [Path(path)]
        if not found:
            raise UserError(f"image={path} holds no images (looked for {' '.join(IMAGE_SUFFIXES)}, also in subfolders)")
        files += found
    files, found = files[: cfg.count], len(files)
    pixels = np.stack([_read(file, shape, cfg.edit.factor if needs.small else None) for file in files])
    labels = torch.full((len(files),), -1)
    return Inputs(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels, [file.stem for file in files], found)


def _read(file: Path, shape: tuple[int, int, int], factor: int | None):
    """One image as pixels (H, W, C); one that is smaller by exactly `factor` is enlarged pixel by pixel."""
    from PIL import Image

    from diffusion_lab.data.cache import fitted
    from diffusion_lab.data.sources import read_image

    channels, height, width = shape
    if not file.is_file():
        raise UserError(f"image={file} is not a file or folder")
    try:
        image = read_image(file, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"image={file} cannot be read as an image ({error})") from error
    if factor and image.size == (width // factor, height // factor):
        image = image.resize((width, height), Image.Resampling.NEAREST)
    return fitted(image, (height, width), channels, antialias=True)


def _write(run: Run, pixels: dict[str, Tensor], names: list[str]) -> None:
    """Each image of each column as a PNG, and the columns side by side."""
    import torch
    from torchvision.utils import save_image

    from diffusion_lab.experiments.pictures import save_strips

    rows = len(next(iter(pixels.values())))
    if rows < len(names):  # pairs
        names = [f"{a}\nto {b}" for a, b in zip(names[::2], names[1::2], strict=True)]
    for title, images in pixels.items():
        for i, image in enumerate(images):
            save_image(image, run.folder / f"{i:03d}_{_slug(names[i])}_{_slug(title)}.png")
    shown = torch.stack([*pixels.values()], 1)[:ROWS]
    titles = [title.replace(", ", "\n") for title in pixels]
    names = names if len(set(names)) == len(names) else [f"{i}: {name}" for i, name in enumerate(names)]
    save_strips(dict(zip(names, shown, strict=False)), titles, run.strip)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "_", text)


def _write_figures(cfg: DictConfig, config: dict, run: Run, inputs: Inputs, result: Result) -> None:
    written = {
        "checkpoint": str(cfg.checkpoint or cfg.model.path),
        "prompts": config["model"].get("prompts"),
        "edit": OmegaConf.to_container(cfg.edit),
        "sampler": config["sampler"],
        "guidance": config["guidance"],
        "seed": config["seed"],
        "images": inputs.names,
        "labels": None if inputs.labels is None else inputs.labels.tolist(),
        "network_calls": result.calls,
        "figures": result.figures,
    }
    write_json(run.folder / "edit.json", written)


def _what(cfg: DictConfig, config: dict, inputs: Inputs, calls: float) -> str:
    """What was done, in one line."""
    name, count = cfg.edit._target_.rsplit(".", 1)[-1], len(inputs.names)
    images = f"{count} image{'s' * (count > 1)}"
    if inputs.found > count:
        images = f"{count} of {inputs.found} images (count={inputs.found} for all)"
    scale, steps = config["guidance"]["scale"], config["sampler"]["steps"]
    way = f" with {_sampler(cfg, config)}, {steps} steps" if calls else ""
    guided = f", guidance.scale={scale:g}" if scale != 1 and calls else ""
    return f"{name} of {images}{way}{guided}: {calls:g} network calls each"


def _sampler(cfg: DictConfig, config: dict) -> str:
    """The word of the choice; the function's name where none stands for it."""
    word = cfg.choices.sampler
    if word == "as_trained":
        word = None if cfg.sampler._target_ else (config.get("choices") or {}).get("sampler")
    return word or config["sampler"]["_target_"].rsplit(".", 1)[-1]


def _said(run: Run, figures: dict[str, list[float]]) -> list[str]:
    means = [f"{name}: {sum(values) / len(values):.4g}, the mean" for name, values in figures.items()]
    return [*means, f"strip        {short(run.strip)}", f"all images   {short(run.folder)}"]
