"""Pictures of a run: sample grids, the forward process under each schedule, the reverse process step by step."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from textwrap import shorten

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn
from torchvision.utils import make_grid

from diffusion_lab.data.cache import Decoded
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.metrics.nearest import Nearest
from diffusion_lab.process import schedules
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.sampling import edits
from diffusion_lab.sampling.drawing import Drawing
from diffusion_lab.sampling.samplers import ddim
from diffusion_lab.spaces.pixels import over_white
from diffusion_lab.spaces.space import Space

MOST_COLUMNS = 16  # of named classes in a grid
TEXT = 11  # height of a name in a grid, in pixels
ROOM = 160  # for the name of a row, in pixels
log = logging.getLogger(__name__)

READABLE = 64  # small images are enlarged to at least this many pixels
MOST_STEPS = 10  # of a sampler that are shown
GAP = 3  # pixels around each image of a strip


def drawn(**pictures: Callable) -> dict:
    """Draw what decorates a run, each by its name: one that fails is a warning, and costs nothing else."""
    files = {}
    for name, draw in pictures.items():
        try:
            files[name] = draw()
        except Exception as error:
            log.warning(
                "the picture %s could not be drawn: %s: %s", name, type(error).__name__, " ".join(str(error).split())
            )
    return files


def save_grid(
    images: Tensor, file: Path, columns: int | None = None, rows: Sequence[str] = (), titles: Sequence[str] = ()
) -> Path:
    """Write images (N, C, H, W), values from 0 to 1, as one PNG: a square grid, or `columns` wide. Transparency lies over
    white.

    The file says, as a PNG's text `grid`, where its images are: left, top, the width and height of a tile, and columns.

    Args:
        rows, titles: names of the rows, beside them, and of the columns, above them.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = _picture(_grid(images, columns))
    across = columns or _columns(len(images))
    down = -(-len(images) // across)
    named = _named(picture, rows, titles, down, across)
    places = PngInfo()
    left, top = named.width - picture.width, named.height - picture.height
    places.add_text("grid", f"{left} {top} {picture.width // across} {picture.height // down} {across}")
    named.save(file, pnginfo=places)
    return file


def save_class_grid(images: Tensor, names: Sequence[str], file: Path) -> Path:
    """A grid of images of each class in turn: a named column for each, where there are few."""
    if not 1 < len(names) <= MOST_COLUMNS or len(images) < len(names):
        return save_grid(images, file)
    across = len(names) * max(1, math.isqrt(len(images)) // len(names))  # so that it is about square
    whole = len(images) // across * across  # rows: one image alone in the last would be nobody's column
    return save_grid(images[:whole], file, across, titles=across // len(names) * list(names))


def _named(picture: Image.Image, rows: Sequence[str], titles: Sequence[str], down: int, across: int) -> Image.Image:
    """A grid of `down` times `across` images with its rows named at its left, its columns above, in what room there is."""
    if not (rows or titles):
        return picture
    tile = (picture.width / across, picture.height / down)
    rows = [_cut(name, ROOM) for name in rows]
    left = math.ceil(max((_font().getlength(name) for name in rows), default=-8)) + 8
    top = TEXT + 8 if titles else 0
    named = Image.new("RGB", (picture.width + left, picture.height + top), "white")
    named.paste(picture, (left, top))
    draw = ImageDraw.Draw(named)
    for i, name in enumerate(rows):
        draw.text((left - 4, top + (i + 0.5) * tile[1]), name, "black", _font(), anchor="rm")
    for i, name in enumerate(titles):
        draw.text((left + (i + 0.5) * tile[0], top / 2), _cut(name, tile[0] - 4), "black", _font(), anchor="mm")
    return named


def _cut(name: str, room: float) -> str:
    """As much of a name, in one line, as `room` pixels take."""
    name, length = " ".join(name.split()), len(name)
    while length > 1 and _font().getlength(name[:length] + "…" * (length < len(name))) > room:
        length -= 1
    return name[:length] + "…" * (length < len(name))


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's, which has more than Latin letters."""
    return ImageFont.truetype(str(files("matplotlib").joinpath("mpl-data/fonts/ttf/DejaVuSans.ttf")), TEXT)


def save_copies(images: Tensor, found: Nearest, decoded: Decoded, file: Path, count: int = 8) -> Path:
    """The drawn images, uint8 (N, C, H, W), that are most likely copies, above the two training images nearest to each."""
    closest = found.ratio.argsort()[:count]
    training = (torch.from_numpy(decoded.images[found.row[closest, i].numpy()]).permute(0, 3, 1, 2) for i in (0, 1))
    shown = torch.cat([images[closest], *training]) / 255
    titles = [f"{ratio:.2f}" for ratio in found.ratio[closest].tolist()]
    return save_grid(shown, file, columns=len(closest), rows=["drawn", "nearest", "second nearest"], titles=titles)


def save_gif(frames: list[Tensor], file: Path) -> Path:
    """Write frames, each images (N, C, H, W) with values from 0 to 1, as an animated grid of 4 s that rests on the last.

    Smaller frames are enlarged to the size of the largest."""
    size = max(tuple(images.shape[2:]) for images in frames)
    frames = [F.interpolate(images, size) for images in frames]
    pictures = [_picture(_grid(images)) for images in frames]
    durations = [max(20, 4000 // len(pictures))] * (len(pictures) - 1) + [2000]  # ms
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return file


def unit_scale(noisy: Tensor) -> Tensor:
    """Noisy images as they can be shown where a schedule does not preserve variance: not stronger than unit variance."""
    return noisy / noisy.std().clamp(min=1)


def _grid(images: Tensor, columns: int | None = None) -> Tensor:
    scale = max(1, math.ceil(READABLE / min(images.shape[2:])))
    images = over_white(images).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return make_grid(images, nrow=columns or _columns(len(images)), pad_value=1.0)


def _picture(values: Tensor) -> Image.Image:
    """Pixel values (3, H, W) from 0 to 1 in 8 bits."""
    return Image.fromarray((values * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())


def _columns(count: int) -> int:
    """Of a square grid."""
    return math.ceil(math.sqrt(count))


def save_forward_process(denoiser: Denoiser, pixels: Tensor, file: Path, columns: int = 9) -> Path:
    """One real image, uint8 (C, H, W), dissolving under three schedules, and the run's own if it is another, in rows."""
    image = denoiser.space.encode(pixels[None].to(denoiser.device))
    noise = noise_of_images(0, [0], image.shape[1:], device=image.device)
    times = torch.linspace(0, 1, columns, device=image.device)
    rows = {"cosine": schedules.Cosine(), "linear": schedules.Linear(), "linear_clipped": schedules.LinearClipped()}
    strips = {
        name: dissolve(denoiser.space, schedule.to(image.device), image, noise, times) for name, schedule in rows.items()
    }
    own = dissolve(denoiser.space, denoiser.schedule, image, noise, times)
    if not any(torch.equal(own, strip) for strip in strips.values()):
        strips = {"this run's": own, **strips}
    return save_strips(strips, [f"t = {time:.3g}" for time in times.tolist()], file)


def save_denoised(denoiser: Denoiser, pixels: Tensor, labels: Tensor | None, file: Path) -> Path:
    """Real images, uint8 (N, C, H, W), noisy and as the denoiser estimates them in one call: at a few times, or at its only
    noise level."""
    times = [0.25, 0.5, 0.75]
    rates = torch.stack(denoiser.schedule(torch.tensor(times, device=denoiser.device)))
    if torch.equal(rates[:, 0], rates[:, 2]):
        times = [0.5]
    with torch.inference_mode():
        columns = edits.denoise_once(edits.prepare(denoiser, ddim, pixels, labels, seed=0), times).columns
    rows = torch.stack([denoiser.space.decode(images).cpu() for images in columns.values()], 1)
    titles = [title.replace(", ", "\n") for title in columns]
    named = labels is not None and len(denoiser.conditions) > 0
    rows_of_labels = labels.tolist() if named else [-1] * len(rows)
    said = [shorten(denoiser.conditions.name(row), 16) if row >= 0 else "" for row in rows_of_labels]
    names = [f"held-out {i}" + f"\n{name}" * bool(name) for i, name in enumerate(said)]
    return save_strips(dict(zip(names, rows, strict=True)), titles, file)


def dissolve(space: Space, schedule: nn.Module, image: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What noisy images look like under `schedule`: pixel values from 0 to 1, (T, C, H, W), on the CPU.

    They are scaled to the variance of image and noise, which not every schedule preserves.

    Args:
        image, noise: (1, C, H, W) in the space.
        times: (T,) in [0, 1].
    """
    signal_rate, noise_rate = (rate.view(-1, 1, 1, 1) for rate in schedule(times))
    noisy = (signal_rate * image + noise_rate * noise) / torch.hypot(signal_rate, noise_rate)
    return space.decode(noisy).cpu()


def save_reverse_process(drawing: Drawing, steps: int, file: Path) -> Path:
    """Noise becoming an image in the sampler's steps, or in 10 where it has more: what it holds at each, and its estimate
    of the image."""
    denoiser, noisy_images, estimates = drawing.denoiser, [], []

    def keep(step, noisy, prediction):
        noisy_images.append(denoiser.space.decode(unit_scale(noisy))[0].cpu())
        estimates.append(denoiser.space.decode(prediction.image)[0].cpu())

    def noise(drawn: int) -> Tensor:
        return noise_of_images(drawing.seed, [0], denoiser.shape, drawn, denoiser.device)

    label = drawing.classes_in_turn(1)
    label = None if label is None else label.to(denoiser.device)
    with torch.inference_mode():
        way = {"steps": min(steps, MOST_STEPS), "fresh_noise": lambda step: noise(step + 1)}
        drawing.sampler(denoiser, noise(0), label, callback=keep, **way)
    if not estimates:
        raise UserError("the sampler tells its `callback` nothing")
    strips = {"noisy": torch.stack(noisy_images), "image estimate": torch.stack(estimates)}
    return save_strips(strips, [f"step {i + 1}" for i in range(len(noisy_images))], file)


def save_strips(strips: dict[str, Tensor], titles: list[str], file: Path) -> Path:
    """Write a labelled picture: a row of images (N, C, H, W), values from 0 to 1, for each name, a column for each title."""
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = max((tuple(image.shape[1:]) for images in strips.values() for image in images), key=math.prod)
    scale = max(1, math.ceil(READABLE / min(height, width)))
    height, width = scale * height, scale * width
    rows = [torch.cat([_framed(image, (height, width)) for image in images], 2) for images in strips.values()]
    short = min(height, width)  # an inch or so
    size = (1.1 * width / short * len(titles) + 1.2, (0.2 + height / short) * len(strips) + 0.2)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axis = figure.add_subplot()  # one for all: an axis for each image takes longer than to draw the images by the network
    axis.imshow(torch.cat(rows, 1).permute(1, 2, 0).numpy())
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labelsize=9, labeltop=True, labelbottom=False)
    axis.set_xticks(_middles(len(titles), width), titles, parse_math=False)  # a file's name may hold a $
    axis.set_yticks(_middles(len(strips), height), list(strips), rotation=90, va="center", parse_math=False)
    figure.savefig(file)
    return file


def _framed(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (C, H, W) as (3, height + 2 GAP, width + 2 GAP), white around it, and behind it where it is transparent."""
    shown = over_white(F.interpolate(image[None].float(), size).clamp(0, 1))[0].expand(3, -1, -1)
    return F.pad(shown, (GAP, GAP, GAP, GAP), value=1.0)


def _middles(count: int, side: int) -> list[float]:
    """Where the middles of so many framed images are."""
    return [(i + 0.5) * (side + 2 * GAP) - 0.5 for i in range(count)]
