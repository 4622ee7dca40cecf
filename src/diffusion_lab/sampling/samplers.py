"""Samplers: functions of (denoiser, noise, label) to images.

All share these arguments:
    denoiser: the Denoiser to draw from; any schedule, target and network.
    noise: standard normal noise (B, C, H, W), from which it starts.
    label: classes (B,) or None.
    steps: network calls, at least 1.
and as keywords (`way`)
    times: where they are made, see `diffusion_lab.sampling.times`.
    threshold: keeps the image estimates possible, see `diffusion_lab.sampling.thresholds`; None leaves them as they are.
    fresh_noise: call number to standard normal noise like `noise`; by default from torch's global generator.
    callback: called after each network call with (call number, noisy, prediction).
They return images (B, C, H, W) in the denoiser's space: the image estimate of the last call.

In what follows sigma = noise_rate / signal_rate, so that noisy / signal_rate = image + sigma * noise whatever the schedule.
"""

import itertools
import math
from collections.abc import Callable
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser, Prediction
from diffusion_lab.errors import UserError
from diffusion_lab.process import posterior
from diffusion_lab.process.schedules import time_of
from diffusion_lab.sampling.times import trailing

LEVELS = 20  # of a way back and forth, before any stretch of it is gone again


class Way(TypedDict, total=False):
    """The keywords that all samplers take."""

    times: Callable
    threshold: Callable | None
    fresh_noise: Callable[[int], Tensor] | None
    callback: Callable[[int, Tensor, Prediction], None] | None


class Walk:
    """A denoiser called at falling times: what all samplers share. Its last stop, the clean image, has the rates (1, 0).

    Rates are Python numbers, so that steps are computed in double precision without waiting for the device.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        label: Tensor | None,
        steps: int,
        times: Callable = trailing,
        threshold: Callable | None = None,
        fresh_noise: Callable[[int], Tensor] | None = None,
        callback: Callable[[int, Tensor, Prediction], None] | None = None,
    ):
        self.denoiser, self.noise, self.label = denoiser, noise, label
        self.threshold, self.fresh_noise, self.callback = threshold, fresh_noise, callback
        # As precise as the network is told, so that a schedule of discrete steps is at the same step for both.
        self.times = times(denoiser.schedule, steps, noise.device).float().tolist()
        self.rates = [*(self.rates_at(time) for time in self.times), (1.0, 0.0)]
        self.calls = 0

    def rates_at(self, time: float) -> tuple[float, float]:
        signal_rate, noise_rate = self.denoiser.schedule(self._tensor(time))
        return signal_rate.item(), noise_rate.item()

    @property
    def start_rate(self) -> float:
        """How strong a noisy image of unit variance is at the first time."""
        return math.hypot(*self.rates[0])

    def start(self) -> Tensor:
        """The noise, as strong as a noisy image at the first time."""
        return self.start_rate * self.noise

    def predict(self, noisy: Tensor, time: float, rates: tuple[float, float]) -> Prediction:
        """Call the network at a time and its rates."""
        prediction = self.denoiser(noisy, self._tensor(time).to(noisy.dtype).expand(len(noisy)), self.label)
        if self.threshold:
            signal_rate, noise_rate = rates
            image = self.threshold(prediction.image, self.denoiser)
            prediction = prediction._replace(image=image, noise=(noisy - signal_rate * image) / noise_rate)
        if self.callback:
            self.callback(self.calls, noisy, prediction)
        self.calls += 1
        return prediction

    def fresh(self, drawing: int | None = None) -> Tensor:
        """Standard normal noise for the step after the latest call, or another one for each further `drawing`."""
        drawing = self.calls - 1 if drawing is None else drawing
        return self.fresh_noise(drawing) if self.fresh_noise else torch.randn_like(self.noise)

    def _tensor(self, time: float) -> Tensor:
        return torch.full((1,), time, dtype=torch.float64, device=self.noise.device)  # no copy, so no wait


def ddim(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    eta: float = 0.0,
    **way: Unpack[Way],
) -> Tensor:
    """DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16): deterministic with eta = 0, ancestral with eta = 1.

    Each step moves to the next time with the two estimates, x' = signal_rate' * image + direction * noise + deviation *
    fresh, where direction ** 2 + deviation ** 2 = noise_rate' ** 2.

    Args:
        eta: share of fresh noise, in [0, 1]. It lets later steps correct earlier ones, at the price of more steps.
    """
    walk = Walk(denoiser, noise, label, steps, **way)
    noisy = walk.start()
    for time, rates, to in zip(walk.times, walk.rates, walk.rates[1:], strict=False):
        image, estimate, _ = walk.predict(noisy, time, rates)
        deviation = eta * math.sqrt(max(0.0, posterior.variances(rates, to)[0])) if eta else 0.0  # rounding may pass 0
        signal_rate, noise_rate = to
        noisy = signal_rate * image + math.sqrt(max(0.0, noise_rate**2 - deviation**2)) * estimate
        if deviation:
            noisy = noisy + deviation * walk.fresh()
    return noisy


def ddpm(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    variance: str = "small",
    resamples: int = 1,
    jump: int = 1,
    **way: Unpack[Way],
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, algorithm 2), over as many steps as asked for (Nichol and
    Dhariwal 2021, arXiv:2102.09672, sec. 4). With the small variance it is `ddim` with eta = 1.

    With `resamples` every stretch of `jump` steps is gone so often: in between, noise takes the image back to where the
    stretch began, so that what is made new can settle with what is given (RePaint, Lugmayr et al. 2022, arXiv:2201.09865,
    algorithm 1). The noise levels are then fewer, so that the network calls are `steps`; and where these are few, stretches
    are gone less often, see `_resampled_path`.

    Args:
        variance: of a step: "small" (beta tilde), "large" (beta) or "learned", where the network predicts it.
        resamples: how often a stretch is gone at the most, at least 1.
        jump: its length in steps, at least 1.

    Raises:
        UserError: the network predicts no variance, and "learned" was asked for.
    """
    path = _resampled_path(steps, resamples, jump)
    walk = Walk(denoiser, noise, label, path[-1], **way)
    noisy = walk.start()
    for here, there in itertools.pairwise(path):
        rates, to = walk.rates[here], walk.rates[there]
        if there < here:
            scale, added = to[0] / rates[0], math.sqrt(max(0.0, posterior.variances(to, rates)[1]))
            noisy = scale * noisy + added * walk.fresh(steps + walk.calls)
            continue
        image, estimate, fraction = walk.predict(noisy, walk.times[here], rates)
        if variance == "learned" and fraction is None:
            raise UserError("sampler.variance=learned needs a network trained with variance=learned; take small or large")
        (signal_rate, noise_rate), (to_signal_rate, to_noise_rate) = rates, to
        noisy = to_signal_rate * image + signal_rate * to_noise_rate**2 / (to_signal_rate * noise_rate) * estimate
        small, large = posterior.variances(rates, to)
        if small > 0:  # not in the last step
            learned = posterior.between(fraction, small, large) if variance == "learned" else None
            noisy = noisy + {"small": small, "large": large, "learned": learned}[variance] ** 0.5 * walk.fresh()
    return noisy


def _resampled_path(calls: int, resamples: int, jump: int) -> list[int]:
    """The stops of a way from 0 with `calls` steps forward. Stretches of `jump` are gone again, up to `resamples` times
    in all and as evenly as can be, but those that end the way: [0, 1, 2, 0, 1, 2, 3] of five calls, a jump of two.

    There are LEVELS levels, or half as many as the calls, before any stretch is gone again: on fewer, nothing is drawn well
    that could settle.
    """
    levels = min(LEVELS, -(-calls // 2))
    while levels < calls and levels + (resamples - 1) * jump * _before_the_last(levels, jump) < calls:
        levels += 1
    passes = (calls - levels) // jump
    levels = calls - passes * jump
    stretches, stops = _before_the_last(levels, jump), [0]
    for k, begin in enumerate(range(0, levels, jump)):
        again = passes * (k + 1) // stretches - passes * k // stretches if k < stretches else 0
        for _ in range(1 + again):
            stops += range(begin + (stops[-1] == begin), min(begin + jump, levels) + 1)
    return stops


def _before_the_last(levels: int, jump: int) -> int:
    """How many stretches there are before the last."""
    return -(-levels // jump) - 1


def euler(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    churn: float = 0.0,
    **way: Unpack[Way],
) -> Tensor:
    """Euler's method for the probability flow, d(noisy / signal_rate) / d sigma = noise (Karras et al. 2022,
    arXiv:2206.00364, algorithm 2 without its correction). Without churn it is `ddim`.

    Args:
        churn: noise added and removed again over the whole way, S_churn of the paper.
    """
    walk = Walk(denoiser, noise, label, steps, **way)
    noisy = walk.start()
    for step, (to_signal_rate, to_noise_rate) in enumerate(walk.rates[1:]):
        noisy, time, rates = _churned(walk, noisy, step, churn / steps)
        image, estimate, _ = walk.predict(noisy, time, rates)
        noisy = to_signal_rate * image + to_noise_rate * estimate
    return noisy


def heun(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    churn: float = 0.0,
    **way: Unpack[Way],
) -> Tensor:
    """EDM's sampler (Karras et al. 2022, arXiv:2206.00364, algorithms 1 and 2): second order.

    Each interval but the last takes two network calls, at its beginning and at its end, so `steps` calls make
    (steps + 1) // 2 intervals, and of an even number one call is left over.

    Args:
        churn: noise added and removed again over the whole way, S_churn of the paper.
    """
    intervals = (steps + 1) // 2
    walk = Walk(denoiser, noise, label, intervals, **way)
    noisy = walk.start()
    for step, (to_signal_rate, to_noise_rate) in enumerate(walk.rates[1:]):
        noisy, time, rates = _churned(walk, noisy, step, churn / intervals)
        image, estimate, _ = walk.predict(noisy, time, rates)
        noisy = to_signal_rate * image + to_noise_rate * estimate
        if step < intervals - 1:
            corrected = walk.predict(noisy, walk.times[step + 1], walk.rates[step + 1]).noise
            length = to_noise_rate - to_signal_rate * rates[1] / rates[0]  # of the step in sigma, times signal_rate'
            noisy = noisy + length * (corrected - estimate) / 2
    return noisy


def dpm_solver(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    order: int = 2,
    eta: float = 0.0,
    **way: Unpack[Way],
) -> Tensor:
    """DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095): a multistep method in log(1 / sigma), one network call a step.

    Between calls the image estimate is taken as a polynomial through the last `order` of them, and the rest of the
    equation solved exactly. Order 1 is `ddim`; 2 is 2M (algorithm 2); 3 is 3M as diffusers has it (the second step of
    k-diffusion's differs in the sixth digit): its errors are smaller, but fall with the steps' square, as 2M's do, for the
    curvature enters with half its weight. eta = 1 gives the stochastic versions (eq. 18). The last step is of order 1, as
    it has no end in log(1 / sigma).

    Args:
        order: 1, 2 or 3.
        eta: share of fresh noise, in [0, 1].
    """
    walk = Walk(denoiser, noise, label, steps, **way)
    noisy = walk.start()
    images, lengths = [], []  # the newest first
    for time, rates, to in zip(walk.times, walk.rates, walk.rates[1:], strict=False):
        images.insert(0, walk.predict(noisy, time, rates).image)
        del images[order:]
        (signal_rate, noise_rate), (to_signal_rate, to_noise_rate) = rates, to
        if to_noise_rate == 0:
            break
        length = math.log(noise_rate / signal_rate) - math.log(to_noise_rate / to_signal_rate)
        if length == 0:  # a plateau of the schedule
            images.pop(0)
            continue
        keep = math.exp(-(1 + eta) * length)
        noisy = to_signal_rate * (keep / signal_rate * noisy + _image_part(images, length, lengths, eta))
        if eta:
            noisy = noisy + to_noise_rate * math.sqrt(-math.expm1(-2 * eta * length)) * walk.fresh()
        lengths.insert(0, length)
    return images[0]


def _image_part(images: list[Tensor], length: float, lengths: list[float], eta: float) -> Tensor:
    """The integral over a step of the polynomial through the latest image estimates (arXiv:2211.01095, eq. 12 and app. B).

    Args:
        images: up to three estimates, the newest first.
        length: of the step in log(1 / sigma).
        lengths: of the steps before it, the newest first.
    """
    stretched = (1 + eta) * length
    weight = -math.expm1(-stretched)
    if len(images) == 1:
        return weight * images[0]
    slope = (images[0] - images[1]) * (length / lengths[0])
    if len(images) == 2:
        return weight * (images[0] + slope / 2)
    older = (images[1] - images[2]) * (length / lengths[1])
    total = (lengths[0] + lengths[1]) / length
    curvature = (slope - older) / total
    slope = slope + curvature * lengths[0] / length
    first = 1 - weight / stretched
    return weight * images[0] + first * slope - (first / stretched - 0.5) * curvature


def consistency(
    denoiser: Denoiser, noise: Tensor, label: Tensor | None = None, steps: int = 1, **way: Unpack[Way]
) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, arXiv:2303.01469, algorithm 1): each call gives an image, fresh
    noise takes it to the next time, and the next call gives a better one. One call is `ddim` with one.

    It is for denoisers whose image estimates are images that could be, which criterion=consistency makes; of others it
    draws blurred ones.
    """
    walk = Walk(denoiser, noise, label, steps, **way)
    image = walk.predict(walk.start(), walk.times[0], walk.rates[0]).image
    for time, rates in zip(walk.times[1:], walk.rates[1:], strict=False):
        signal_rate, noise_rate = rates
        image = walk.predict(signal_rate * image + noise_rate * walk.fresh(), time, rates).image
    return image


def _churned(walk: Walk, noisy: Tensor, step: int, churn: float) -> tuple[Tensor, float, tuple[float, float]]:
    """Add noise up to a somewhat earlier time, at most the first (arXiv:2206.00364, algorithm 2, lines 4 to 6)."""
    time, (signal_rate, noise_rate) = walk.times[step], walk.rates[step]
    if not (churn and step):
        return noisy, time, (signal_rate, noise_rate)
    sigma = noise_rate / signal_rate
    more = sigma * (1 + min(churn, math.sqrt(2) - 1))
    time = time_of(walk.denoiser.schedule, torch.tensor([-2 * math.log(more)], device=walk.noise.device).double())
    time = time.float().item()
    rates = walk.rates_at(time)
    added = math.sqrt(max(0.0, (rates[1] / rates[0]) ** 2 - sigma**2))
    return rates[0] * (noisy / signal_rate + added * walk.fresh()), time, rates
