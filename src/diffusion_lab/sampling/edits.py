"""What a trained denoiser is good for beyond drawing from noise: functions of what is given to what was made of it.

All take a `Given` and return an `Edited`; everything is in the denoiser's space, times are diffusion times in [0, 1]. Each
works with every denoiser, guided or not, and, where it says so, with every sampler. What it needs beside images it says in a
value, `edit.needs`.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from diffusion_lab.conditions import Prompts
from diffusion_lab.data import masks
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.process.schedules import time_of
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.sampling.constraints import Anagram, Hybrid, Known, Mixture, Pooled, UpTo, blur
from diffusion_lab.sampling.draw import Sampler
from diffusion_lab.sampling.enlarging import Enlarger
from diffusion_lab.sampling.inversion import invert as invert_ddim
from diffusion_lab.sizes import size_text

EXTRA = 1_000_000  # the first of the drawings of an image's noise that are not the sampler's


class Needs(NamedTuple):
    """What an edit needs beside a denoiser and a sampler.

    Attributes:
        images: images to work on; without, it makes them out of noise.
        labels: it draws for so many labels, `edit.labels`.
        pairs: an even number of images.
        ddim: that the sampler is DDIM without fresh noise, whose way it goes back.
        small: images may be given smaller, by its `factor`.
        pixels: that the model works on pixels: it turns, blurs or averages them.
        midway: a denoiser that knows every time, for it begins in the middle of the way.
    """

    images: bool = True
    labels: int = 0
    pairs: bool = False
    ddim: bool = False
    small: bool = False
    pixels: bool = False
    midway: bool = False


def needs(**what) -> Callable:
    """A decorator that says what an edit needs."""

    def say(edit: Callable) -> Callable:
        edit.needs = Needs(**what)
        return edit

    return say


def needs_of(edit: Callable) -> Needs:
    """What `edit`, perhaps with its settings bound, needs."""
    return getattr(getattr(edit, "func", edit), "needs", Needs())


class Given(NamedTuple):
    """What an edit works on.

    Attributes:
        denoiser: perhaps guided.
        sampler: (denoiser, noise, label) to images, with its network calls and fresh noise bound.
        images: (N, C, H, W); for edits that make an image out of nothing, only its shape counts.
        labels: (N,) classes, -1 for none; None where the denoiser takes no label.
        noise: drawing number to standard normal noise like `images`; 0 is what a sampler starts from.
    """

    denoiser: Denoiser
    sampler: Sampler
    images: Tensor
    labels: Tensor | None
    noise: Callable[[int], Tensor]


def prepare(
    denoiser: Denoiser,
    sampler: Sampler,
    pixels: Tensor,
    labels: Tensor | None,
    seed: int,
    indices: Sequence[int] | None = None,
) -> Given:
    """What an edit gets of uint8 pixels (N, C, H, W): on the denoiser's device, each with noise of its own.

    Args:
        labels: (N,) classes, -1 for none; None where the denoiser takes no label.
        indices: which images these are among all that share `seed`, by default 0 to N - 1: noise belongs to them.
    """
    device = denoiser.device
    indices = range(len(pixels)) if indices is None else indices

    def noise(drawing: int) -> Tensor:
        return noise_of_images(seed, indices, denoiser.shape, drawing, device)

    sampler = partial(sampler, fresh_noise=lambda call: noise(call + 1))
    labels = None if labels is None else labels.to(device)
    return Given(denoiser, sampler, denoiser.space.encode(pixels.to(device)), labels, noise)


class Edited(NamedTuple):
    """What became of it.

    Attributes:
        columns: title to images (M, C, H, W), in the order in which they are shown. The last is the result.
        figures: what was measured, with its unit, to values (M,).
        kept: which pixels of the result are to be those that were given, bool (1, 1, H, W): latents know them about.
    """

    columns: dict[str, Tensor]
    figures: dict[str, Tensor]
    kept: Tensor | None = None


def noise(given: Given, times: Sequence[float]) -> Edited:
    """The forward process: the images as noisy as at each of the times."""
    noisy = {f"t = {time:g}": _shown(given, _noisy(given, time), time) for time in times}
    return Edited({"input": given.images, **noisy}, {})


@needs(pixels=True)
def denoise_blur(given: Given, times: Sequence[float]) -> Edited:
    """The classical baseline: noisy images under the Gaussian blur that suits each of them best, told from the original."""

    def blurred(noisy: Tensor, time: float) -> Tensor:
        signal_rate, _ = _rates(given.denoiser, time)
        choices = torch.stack([blur(noisy / signal_rate, sigma) for sigma in _sigmas(min(given.images.shape[2:]))])
        best = (choices - given.images).square().flatten(2).mean(2).argmin(0)
        return choices[best, torch.arange(len(noisy))]

    return _denoised(given, times, blurred, "blurred")


@needs(midway=True)
def denoise_once(given: Given, times: Sequence[float], sigmas: Sequence[float] | None = None) -> Edited:
    """Noisy images, and the denoiser's estimate of the image in one network call.

    Args:
        sigmas: noise levels instead of times: image + sigma * noise, at that level's time. A denoiser of a single level is
            told that, whatever the noise.
    """

    def once(noisy: Tensor, time: float) -> Tensor:
        return given.denoiser(noisy, torch.full_like(noisy[:, 0, 0, 0], time), given.labels).image

    if sigmas is None:
        return _denoised(given, times, once, "one call")
    columns, figures = {"input": given.images}, {}
    for sigma in sigmas:
        level = torch.tensor([-2 * math.log(max(sigma, 1e-4))], dtype=torch.float64, device=given.images.device)
        time = time_of(given.denoiser.schedule, level).item()
        columns[f"sigma = {sigma:g}"] = noisy = given.images + sigma * given.noise(0)
        columns[f"one call, sigma = {sigma:g}"] = made = once(_rates(given.denoiser, time)[0] * noisy, time)
        figures[f"PSNR at sigma = {sigma:g} (dB)"] = _psnr(given, made)
    return Edited(columns, figures)


@needs(midway=True)
def denoise(given: Given, times: Sequence[float]) -> Edited:
    """Noisy images, and what the sampler makes of them, whichever it is: from each time on with all its network calls."""
    return _denoised(given, times, lambda noisy, time: _draw_from(given, noisy, time), "denoised")


@needs(midway=True)
def sdedit(given: Given, strengths: Sequence[float]) -> Edited:
    """SDEdit (Meng et al. 2022, arXiv:2108.01073): noise an image to a time, its strength, then draw from there, with any
    sampler. The more noise, the more like the training images and the less like the input."""
    strips = {f"strength {time:g}": _draw_from(given, _noisy(given, time), time) for time in strengths}
    return Edited({"input": given.images, **strips}, {})


def inpaint(given: Given, mask: str | None = None, box: Sequence[int] | None = None) -> Edited:
    """Make a part of each image new, to fit the rest, which stays; with any sampler.

    Drawn straight, the new part knows of the rest only what noise leaves of it, which is biased; sampler=repaint goes back
    and forth and comes as near to the true conditional distribution as its `resamples` allow.

    Args:
        mask, box: the part, see `diffusion_lab.data.masks.mask`.
    """
    new = torch.from_numpy(masks.mask(given.denoiser.space.pixel_shape[1:], mask, box))[None, None]
    unknown = _unknown(given, new)
    fresh_noise = partial(_extra_noise, given)
    drawn = given.sampler(Known(given.denoiser, given.images, unknown, fresh_noise), given.noise(0), given.labels)
    hole = torch.where(unknown, torch.zeros_like(given.images), given.images)
    columns = {"input": given.images, "known": hole, "result": torch.where(unknown, drawn, given.images)}
    return Edited(columns, {}, kept=~new)


@needs(small=True, pixels=True)
def superres(given: Given, factor: int = 4) -> Edited:
    """Draw an image that, averaged over squares of `factor` pixels, is the input so averaged; with any sampler.

    Raises:
        UserError: the images' size is no multiple of the factor.
    """
    size = given.images.shape[2:]
    if factor < 2 or any(side % factor for side in size):
        raise UserError(f"edit.factor={factor} must be at least 2 and divide the images' {size_text(size)} px")
    small = F.avg_pool2d(given.images, factor)
    enlarger, around = given.denoiser.innermost, Pooled(given.denoiser, small, factor)
    if isinstance(enlarger, Enlarger):  # which knows what to make of a small image
        enlarger.show(small, given.noise(EXTRA))
    drawn = given.sampler(around, given.noise(0), given.labels)
    if given.denoiser.space.bounds:
        for _ in range(100):  # between black and white, and true to the small image: onto each in turn, until both hold
            drawn = around.corrected(drawn).clamp(*given.denoiser.space.bounds)
    error = _of_one(given, F.avg_pool2d(drawn, factor) - small).abs().flatten(1).amax(1)
    enlarged = F.interpolate(small, scale_factor=factor, mode="bilinear")
    shown = small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    columns = {"original": given.images, f"input, 1/{factor}": shown, "bilinear": enlarged, "result": drawn}
    return Edited(columns, {"largest error of the averages (of 1)": error, "PSNR (dB)": _psnr(given, drawn)})


@needs(ddim=True)
def invert(given: Given, steps: int, spacing: Callable, corrections: int = 0) -> Edited:
    """The noise that DDIM would draw each image from, and the image drawn from it again.

    Args:
        steps, spacing: network calls and times of the sampler, which is DDIM.
        corrections: see `diffusion_lab.sampling.inversion.invert`.
    """
    found = invert_ddim(given.denoiser, given.images, given.noise(0), given.labels, steps, spacing, corrections)
    drawn = given.sampler(given.denoiser, found, given.labels)
    error = _of_one(given, drawn - given.images).abs().flatten(1).mean(1)
    columns = {"input": given.images, "its noise": found, "drawn again": drawn}
    return Edited(columns, {"mean absolute error (of 1)": error, "standard deviation of the noise": found.flatten(1).std(1)})


@needs(ddim=True, pairs=True)
def interpolate(given: Given, steps: int, spacing: Callable, columns: int = 7, corrections: int = 0) -> Edited:
    """From image 0 to 1, from 2 to 3, and so on: spherically between the noises that DDIM would draw them from (Song et al.
    2021, arXiv:2010.02502, sec. 5.3). Two images of different labels are taken without.

    Args:
        steps, spacing: network calls and times of the sampler, which is DDIM.
        columns: images between the two, the ends' own reconstructions included.

    Raises:
        UserError: an odd number of images.
    """
    if len(given.images) % 2:
        raise UserError(f"edit=interpolate wants images in pairs, not {len(given.images)}")
    labels = given.labels
    if labels is not None:
        same = labels[::2] == labels[1::2]
        labels = torch.where(same, labels[::2], -1)
        given = given._replace(labels=labels.repeat_interleave(2))
    found = invert_ddim(given.denoiser, given.images, given.noise(0), given.labels, steps, spacing, corrections)
    strip = {"from": given.images[::2]}
    for share in torch.linspace(0, 1, columns).tolist():
        strip[f"{share:.2g}"] = given.sampler(given.denoiser, slerp(found[::2], found[1::2], share), labels)
    return Edited({**strip, "to": given.images[1::2]}, {})


@needs(images=False, labels=2, pixels=True)
def anagram(given: Given, labels: Sequence[int | str], view: Callable, prompts: Sequence[str] | None = None) -> Edited:
    """Draw one image that is the first label, and the second when it is flipped, turned or rearranged; with any sampler.

    Args:
        prompts: instead of labels, for a model that reads text.
    """
    rows, (first, second) = _pair(given, labels if prompts is None else prompts)
    drawn = given.sampler(Anagram(given.denoiser, rows, view), given.noise(0), None)
    return Edited({f"as {first}": drawn, f"viewed, as {second}": view(drawn)}, {})


@needs(images=False, labels=2, pixels=True)
def hybrid(given: Given, labels: Sequence[int | str], sigma: float = 2.0, prompts: Sequence[str] | None = None) -> Edited:
    """Draw one image that is the first label from afar, and the second from near; with any sampler.

    Args:
        sigma: see `diffusion_lab.sampling.constraints.Hybrid`.
        prompts: instead of labels, for a model that reads text.
    """
    rows, (far, near) = _pair(given, labels if prompts is None else prompts)
    drawn = given.sampler(Hybrid(given.denoiser, rows, sigma), given.noise(0), None)
    seen = blur(drawn, sigma * drawn.shape[-1] / given.denoiser.shape[-1])  # a cascade's images are larger
    return Edited({f"from afar, as {far}": seen, f"from near, as {near}": drawn}, {})


@needs(images=False, labels=2)
def between(given: Given, labels: Sequence[int | str], columns: int = 7, prompts: Sequence[str] | None = None) -> Edited:
    """From the first label to the second: images drawn from the same noise, by mixtures of both estimates; with any sampler.

    Args:
        columns: images, those of the two labels alone included.
        prompts: instead of labels, for a model that reads text.
    """
    rows, (first, second) = _pair(given, labels if prompts is None else prompts)
    strip = {}
    for share in torch.linspace(0, 1, columns).tolist():
        title = {0: f"as {first}", 1: f"as {second}"}.get(share, f"{share:.2g}")
        strip[title] = given.sampler(Mixture(given.denoiser, rows, share), given.noise(0), None)
    return Edited(strip, {})


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Between two noises (B, C, H, W) along a great circle, so that it stays as strong as noise is (Shoemake 1985)."""
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (first.flatten(1), second.flatten(1)))
    angle = (a * b).sum(1).clamp(-1, 1).acos().clamp(min=1e-4).view(-1, 1, 1, 1)
    return (((1 - share) * angle).sin() * first + (share * angle).sin() * second) / angle.sin()


def _unknown(given: Given, new: Tensor) -> Tensor:
    """Where to make new, bool (1, 1, H, W), in the denoiser's space: a latent is new where any pixel of its patch is."""
    return F.adaptive_max_pool2d(new.to(given.images.device).float(), given.images.shape[2:]) > 0


def _rates(denoiser: Denoiser, time: float) -> tuple[Tensor, Tensor]:
    return denoiser.rates(torch.full((1,), time, device=denoiser.device))


def _noisy(given: Given, time: float) -> Tensor:
    return given.denoiser.noisy(given.images, given.noise(0), torch.full((1,), time, device=given.images.device))


def _shown(given: Given, noisy: Tensor, time: float) -> Tensor:
    """A noisy image as it can be shown, whatever the schedule: of about unit variance."""
    return noisy / torch.hypot(*_rates(given.denoiser, time))


def _draw_from(given: Given, noisy: Tensor, time: float) -> Tensor:
    """What the sampler makes of images that are as noisy as at `time`."""
    rest = UpTo(given.denoiser, time)
    return given.sampler(rest, _shown(given, noisy, time), given.labels)


def _denoised(given: Given, times: Sequence[float], work: Callable[[Tensor, float], Tensor], title: str) -> Edited:
    """The noisy images of each time, and what `work` makes of them, with its PSNR."""
    columns, figures = {"input": given.images}, {}
    for time in times:
        noisy = _noisy(given, time)
        columns[f"t = {time:g}"] = _shown(given, noisy, time)
        columns[f"{title}, t = {time:g}"] = made = work(noisy, time)
        figures[f"PSNR at t = {time:g} (dB)"] = _psnr(given, made)
    return Edited(columns, figures)


def _psnr(given: Given, made: Tensor) -> Tensor:
    """Peak signal to noise ratio (N,), in dB, of images as pixels."""
    pixels = (given.denoiser.space.decode(images) for images in (made, given.images))
    return peak_signal_noise_ratio(*pixels, data_range=1.0, reduction="none", dim=(1, 2, 3))


def _sigmas(size: int) -> list[float]:
    """Blurs worth trying, in pixels."""
    return torch.linspace(0.3, size / 8, 30).tolist()


def _extra_noise(given: Given, call: int) -> Tensor:
    """Noise that is none of the sampler's."""
    return given.noise(EXTRA + call)


def _of_one(given: Given, difference: Tensor) -> Tensor:
    """A difference of two images in units of that between black and white, where the space has those."""
    black, white = given.denoiser.space.bounds or (0, 1)
    return difference / (white - black)


def _pair(given: Given, labels: Sequence[int | str]) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """Each of two labels as rows (N,), and what they mean."""
    conditions = given.denoiser.conditions
    if given.labels is None or not len(conditions):
        hint = ": give edit.prompts" if isinstance(conditions, Prompts) else ", and the checkpoint was trained without"
        raise UserError(f"this edit wants two labels{hint}")
    if len(labels) != 2:
        raise UserError(f"edit.labels={list(labels)} must be two labels")
    rows = [conditions.row(label) for label in labels]
    names = [textwrap.shorten(conditions.name(row), 40) for row in rows]
    return tuple(torch.full_like(given.labels, row) for row in rows), names
