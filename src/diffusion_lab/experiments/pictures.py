"""Pictures of a run: sample grids, the forward process under each schedule, the reverse process step by step."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.utils import make_grid, save_image

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.process import schedules
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.sampling import edits
from diffusion_lab.sampling.drawing import Drawing
from diffusion_lab.sampling.samplers import ddim
from diffusion_lab.spaces.space import Space

READABLE = 64  # small images are enlarged to at least this many pixels
GAP = 3  # pixels around each image of a strip


def save_grid(images: Tensor, file: Path, columns: int | None = None) -> Path:
    """Write images (N, C, H, W), values from 0 to 1, as one PNG: a square grid, or `columns` wide."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_image(_grid(images, columns), file)
    return file


def save_gif(frames: list[Tensor], file: Path) -> Path:
    """Write frames, each images (N, C, H, W) with values from 0 to 1, as an animated grid of 4 s that rests on the last.

    Smaller frames are enlarged to the size of the largest."""
    size = max(images.shape[-1] for images in frames)
    frames = [F.interpolate(images, (size, size)) for images in frames]
    pictures = [Image.fromarray((_grid(images) * 255).round().byte().permute(1, 2, 0).numpy()) for images in frames]
    durations = [max(20, 4000 // len(pictures))] * (len(pictures) - 1) + [2000]  # ms
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return file


def unit_scale(noisy: Tensor) -> Tensor:
    """Noisy images as they can be shown where a schedule does not preserve variance: not stronger than unit variance."""
    return noisy / noisy.std().clamp(min=1)


def _grid(images: Tensor, columns: int | None = None) -> Tensor:
    scale = max(1, math.ceil(READABLE / images.shape[-1]))
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return make_grid(images[:, :3], nrow=columns or math.ceil(math.sqrt(len(images))), pad_value=1.0)


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
    return save_strips({f"held-out {i}": row for i, row in enumerate(rows)}, titles, file)


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


def save_reverse_process(drawing: Drawing, file: Path) -> Path:
    """Noise becoming an image in 10 network calls: what the sampler holds at each, and its estimate of the image."""
    denoiser, noisy_images, estimates = drawing.denoiser, [], []

    def keep(step, noisy, prediction):
        noisy_images.append(denoiser.space.decode(unit_scale(noisy))[0].cpu())
        estimates.append(denoiser.space.decode(prediction.image)[0].cpu())

    def noise(drawn: int) -> Tensor:
        return noise_of_images(drawing.seed, [0], denoiser.shape, drawn, denoiser.device)

    label = drawing.classes_in_turn(1)
    label = None if label is None else label.to(denoiser.device)
    with torch.inference_mode():
        drawing.sampler(denoiser, noise(0), label, steps=10, fresh_noise=lambda step: noise(step + 1), callback=keep)
    strips = {"noisy": torch.stack(noisy_images), "image estimate": torch.stack(estimates)}
    return save_strips(strips, [f"call {i + 1}" for i in range(len(noisy_images))], file)


def save_strips(strips: dict[str, Tensor], titles: list[str], file: Path) -> Path:
    """Write a labelled picture: a row of images (N, C, H, W), values from 0 to 1, for each name, a column for each title."""
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    side = max(image.shape[-1] for images in strips.values() for image in images)
    side *= max(1, math.ceil(READABLE / side))
    rows = [torch.cat([_framed(image, side) for image in images], 2) for images in strips.values()]
    figure = Figure(figsize=(1.1 * len(titles) + 1.2, 1.2 * len(strips) + 0.2), dpi=110, layout="constrained")
    axis = figure.add_subplot()  # one for all: an axis for each image takes longer than to draw the images by the network
    axis.imshow(torch.cat(rows, 1).permute(1, 2, 0).numpy())
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labelsize=9, labeltop=True, labelbottom=False)
    axis.set_xticks(_middles(len(titles), side), titles, parse_math=False)  # a file's name may hold a $
    axis.set_yticks(_middles(len(strips), side), list(strips), rotation=90, va="center", parse_math=False)
    figure.savefig(file)
    return file


def _framed(image: Tensor, side: int) -> Tensor:
    """An image (C, H, W) as (3, side + 2 GAP, side + 2 GAP), white around it."""
    shown = F.interpolate(image[None, :3].float(), (side, side))[0].clamp(0, 1).expand(3, -1, -1)
    return F.pad(shown, (GAP, GAP, GAP, GAP), value=1.0)


def _middles(count: int, side: int) -> list[float]:
    """Where the middles of so many framed images are."""
    return [(i + 0.5) * (side + 2 * GAP) - 0.5 for i in range(count)]
