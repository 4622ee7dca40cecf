"""Denoisers around a denoiser that hold an image to something given: known pixels, a small version, two labels at once."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from diffusion_lab.denoiser import Denoiser, DenoiserAround, Prediction
from diffusion_lab.process.schedules import Schedule


class UpTo(DenoiserAround):
    """The part of the way from diffusion time `begin` on: its time 1 is the denoiser's `begin`.

    With it any sampler starts from an image that is noisy already, with all its network calls.
    """

    def __init__(self, denoiser: Denoiser, begin: float):
        super().__init__(denoiser)
        self.begin = begin
        self.schedule = _Beginning(denoiser.schedule, begin)

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        return self.denoiser(noisy, self.begin * time, label)


class _Beginning(Schedule):
    """The schedule up to a time."""

    def __init__(self, schedule: Schedule, end: float):
        super().__init__()
        self.schedule, self.end = schedule, end

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        # In the denoiser's precision, so that a schedule of discrete steps is at the same step for both.
        return self.schedule((self.end * time.float()).to(time.dtype))


class Known(DenoiserAround):
    """Keeps pixels as they are in `image`: before each network call they are replaced by what is known, with fresh noise of
    that time, and in the image estimate by the image itself (RePaint, Lugmayr et al. 2022, arXiv:2201.09865, eq. 8).

    Args:
        denoiser: what makes the rest.
        image: (B, C, H, W), normalised.
        unknown: where to make new, bool, to broadcast with the image.
        fresh_noise: call number to standard normal noise (B, C, H, W).
    """

    def __init__(self, denoiser: Denoiser, image: Tensor, unknown: Tensor, fresh_noise: Callable[[int], Tensor]):
        super().__init__(denoiser)
        self.image, self.unknown, self.fresh_noise = image, unknown, fresh_noise
        self.calls = 0

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        known = super().noisy(self.image, self.fresh_noise(self.calls), time)
        self.calls += 1
        noisy = torch.where(self.unknown, noisy, known)
        prediction = self.denoiser(noisy, time, label)
        return self.of_image(torch.where(self.unknown, prediction.image, self.image), noisy, time, prediction.fraction)


class Pooled(DenoiserAround):
    """Keeps the image estimate true to a small version of the image: the mean of each square of pixels is put right, what
    varies within it is the denoiser's (DDNM, Wang et al. 2023, arXiv:2212.00490, eq. 13, for average pooling).

    Args:
        small: (B, C, H / factor, W / factor), normalised.
    """

    def __init__(self, denoiser: Denoiser, small: Tensor, factor: int):
        super().__init__(denoiser)
        self.small, self.factor = small, factor

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        prediction = self.denoiser(noisy, time, label)
        return self.of_image(self.corrected(prediction.image), noisy, time, prediction.fraction)

    def corrected(self, image: Tensor) -> Tensor:
        """The nearest image that pools to the small one."""
        error = self.small - F.avg_pool2d(image, self.factor)
        return image + error.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)


class Anagram(DenoiserAround):
    """One image for two labels: as it is, it is to be the first, and looked at in another way the second.

    Both noise estimates, the second one turned back, are averaged (Geng et al. 2024, arXiv:2311.17919, eq. 3).

    Args:
        labels: two labels (B,) each, or None each for a denoiser without.
        view: see `diffusion_lab.sampling.views`.
    """

    def __init__(self, denoiser: Denoiser, labels: tuple[Tensor, Tensor], view: Callable):
        super().__init__(denoiser)
        self.labels, self.view = labels, view

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        as_it_is, viewed = _both(self.denoiser, noisy, self.view(noisy), time, self.labels)
        return _combined(lambda a, b: (a + self.view(b, back=True)) / 2, as_it_is, viewed)

    def shown(self, images: Tensor) -> Tensor:
        return super().shown(torch.cat([images, self.view(images)]))


class Hybrid(DenoiserAround):
    """One image for two labels: from afar, when only its low frequencies are seen, it is to be the first; from near the
    second (Geng et al. 2024, arXiv:2404.11615, sec. 3.3; the idea is Oliva et al. 2006).

    Args:
        labels: two labels (B,) each.
        sigma: of the Gaussian blur that parts low from high frequencies, in pixels.
    """

    def __init__(self, denoiser: Denoiser, labels: tuple[Tensor, Tensor], sigma: float):
        super().__init__(denoiser)
        self.labels, self.sigma = labels, sigma

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        far, near = _both(self.denoiser, noisy, noisy, time, self.labels)
        return _combined(lambda a, b: blur(a, self.sigma) + b - blur(b, self.sigma), far, near)


class Mixture(DenoiserAround):
    """One image for a share of each of two labels: both estimates, mixed (composable diffusion: Liu et al. 2022,
    arXiv:2206.01714, sec. 4).

    Args:
        labels: two labels (B,) each.
        share: of the second, from 0 to 1.
    """

    def __init__(self, denoiser: Denoiser, labels: tuple[Tensor, Tensor], share: float):
        super().__init__(denoiser)
        self.labels, self.share = labels, share

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        first, second = _both(self.denoiser, noisy, noisy, time, self.labels)
        return _combined(lambda a, b: (1 - self.share) * a + self.share * b, first, second)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with a standard deviation of `sigma` pixels, to 4 of them or the image's size."""
    reach = min(round(4 * sigma + 0.5), min(images.shape[2:]) - 1)
    return gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)


def _both(denoiser: Denoiser, first: Tensor, second: Tensor, time: Tensor, labels) -> tuple[Prediction, Prediction]:
    """The predictions for two noisy images and their labels, as one batch."""
    prediction = denoiser(torch.cat([first, second]), torch.cat([time, time]), torch.cat(labels))
    halves = ((None, None) if part is None else part.chunk(2) for part in prediction)
    return tuple(Prediction(*parts) for parts in zip(*halves, strict=True))


def _combined(combine: Callable[[Tensor, Tensor], Tensor], first: Prediction, second: Prediction) -> Prediction:
    """Both predictions made one, part by part; `combine` is linear, so that the two estimates stay tied."""
    return Prediction(*(None if a is None else combine(a, b) for a, b in zip(first, second, strict=True)))
