"""Drawing many images in batches, each from noise of its own seed."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser, Prediction
from diffusion_lab.errors import Diverged, UserError
from diffusion_lab.parts import taken_by
from diffusion_lab.process.seeds import noise_of_images

Sampler = Callable[..., Tensor]


def draw(
    denoiser: Denoiser,
    sampler: Sampler,
    count: int,
    seed: int,
    batch_size: int,
    labels: Tensor | None = None,
    autocast=None,
    callback: Callable | None = None,
    each: Callable = map,
) -> Iterator[Tensor]:
    """Yield batches of images (B, C, H, W), pixel values from 0 to 1, on the CPU: `count` in all.

    Image i depends on `seed`, i and its label, not on `count` or `batch_size` (up to float rounding).

    Args:
        labels: (count,) classes, -1 for none; None where the network takes no label.
        autocast: a context manager under which the network runs, see `diffusion_lab.hardware.autocast`.
        callback: of the sampler, see `diffusion_lab.sampling.samplers`.
        each: what goes through the batches, as `map` does.
    """
    was_training = denoiser.training
    denoiser.eval()
    device, shape = denoiser.device, denoiser.shape

    def drawn(indices: Tensor) -> Tensor:
        noise = noise_of_images(seed, indices, shape, device=device).contiguous(memory_format=torch.channels_last)
        fresh_noise = partial(_fresh_noise, seed, indices, shape, device)
        label = None if labels is None else labels[indices].to(device)
        with torch.inference_mode(), autocast or torch.autocast(device.type, enabled=False):
            images = denoiser.space.decode(sampler(denoiser, noise, label, fresh_noise=fresh_noise, callback=callback))
        return images.cpu()

    yield from each(drawn, torch.arange(count).split(batch_size))
    denoiser.train(was_training)


def _fresh_noise(seed: int, indices: Tensor, shape: tuple[int, int, int], device: torch.device, step: int) -> Tensor:
    return noise_of_images(seed, indices, shape, step + 1, device).contiguous(memory_format=torch.channels_last)


class Finite:
    """A sampler whose images are finite: it stops where one of `sampler`'s would not be. Of the keywords that all samplers
    share, one of somebody's own is given those that it takes.

    Raises:
        UserError: `sampler` is no function of (denoiser, noise, label).
        Diverged: names the sampler, the schedule and the first network call whose image estimate was not finite.
    """

    def __init__(self, sampler: Sampler):
        self.sampler, self.taken = sampler, taken_by(sampler)
        try:
            inspect.signature(sampler).bind("denoiser", "noise", "label")
        except TypeError as error:
            raise UserError(f"sampler {self.name} must be a function of (denoiser, noise, label): {error}") from error

    @property
    def name(self) -> str:
        sampler = getattr(self.sampler, "func", self.sampler)
        return getattr(sampler, "__name__", type(sampler).__name__)

    def __call__(self, denoiser: Denoiser, noise: Tensor, label: Tensor | None = None, callback=None, **way) -> Tensor:
        finite = []  # on the device: to look at each call's would be to wait for it

        def watch(call: int, noisy: Tensor, prediction: Prediction) -> None:
            finite.append(noisy.isfinite().all() & prediction.image.isfinite().all())
            if callback:
                callback(call, noisy, prediction)

        way = {"callback": watch, **way}
        way = {key: value for key, value in way.items() if self.taken is None or key in self.taken}
        images = self.sampler(denoiser, noise, label, **way)
        if not images.isfinite().all():
            broken = next((call for call, sound in enumerate(finite, 1) if not sound), len(finite))
            since = f", from its network call {broken} of {len(finite)} on" if finite else ""
            schedule = type(denoiser.schedule).__name__
            raise Diverged(
                f"sampler {self.name} drew numbers that are not finite on schedule {schedule}{since}: take another sampler, "
                "fewer steps or less guidance, or look whether the training diverged"
            )
        return images


class NetworkCalls:
    """Counts the calls of denoisers, image by image: `with NetworkCalls(denoiser) as calls: ...; calls.count`.

    Whatever is wrapped around one, the innermost denoiser's are counted: so a guided one, which shows it every image twice,
    counts twice.
    """

    def __init__(self, *denoisers: Denoiser):
        self.denoisers, self.count = [denoiser.innermost for denoiser in denoisers], 0

    def __enter__(self) -> "NetworkCalls":
        self.hooks = [denoiser.register_forward_pre_hook(self._add) for denoiser in self.denoisers]
        return self

    def _add(self, denoiser: Denoiser, arguments: tuple) -> None:
        self.count += len(arguments[0])

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()
