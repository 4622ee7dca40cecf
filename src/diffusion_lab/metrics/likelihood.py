"""The variational bound on the negative log-likelihood of images, in bits per dimension."""

import math

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.figures import BITS
from diffusion_lab.metrics.scoring import Scoring, measures
from diffusion_lab.process.posterior import between, divergence, variances
from diffusion_lab.process.seeds import noise_of_images, times_of_images

SEED = 1  # fixed: every checkpoint is asked the same questions


def bits_per_dimension(
    denoiser: Denoiser,
    pixels: Tensor,
    label: Tensor | None,
    index: Tensor,
    steps: int = 1000,
    calls: int = 20,
    large: bool = False,
    decoder: str = "posterior",
) -> Tensor:
    """An estimate of the bound for each image, (B,): what a sampler of `steps` ancestral steps would need to describe it.

    The bound is the sum of three costs (Ho et al. 2020, arXiv:2006.11239, eq. 5): of the noisy end, of each step back, and
    of the 8-bit pixels given the last image estimate, a Gaussian cut into their 256 bins (sec. 3.3). The steps' sum is
    estimated from `calls` of them, spread evenly; their variance is the learned one where the network predicts it, else
    the small or the large one (see `diffusion_lab.process.posterior`). Image estimates are clipped to the space's bounds.
    This is the figure of the papers (Nichol and Dhariwal 2021, arXiv:2102.09672, `calc_bpd_loop` of their code).

    It is made for schedules of discrete steps that begin near the clean image, as DDPM's do. One that begins with more noise
    than its first step removes, as cosine and linear here, pays for an image estimate that is surer than it can be: for
    those decoder "noise" gives the tighter bound. One that begins far below one grey level makes a model pay for telling
    finer ones, unless it knows of them.

    Args:
        pixels: uint8 (B, C, H, W).
        label: classes (B,) or None.
        index: (B,) fixes each image's noise and steps.
        steps: of the sampler; a discrete schedule's own number.
        calls: network calls for each image, beside one for the last step.
        large: which variance.
        decoder: the deviation of the pixels' Gaussian: "posterior", that of the first step's, or "noise", the noise rate
            over the signal rate there, as of an image of which nothing but the noisy one is known.
    """
    image = denoiser.space.encode(pixels)
    device = image.device
    nats = _cost_of_the_noisy_end(denoiser, image) + _cost_of_the_pixels(denoiser, pixels, label, index, steps, decoder)
    offset = times_of_images(index)  # in [0, 1): which step of each stratum
    for call in range(calls):
        step = 1 + ((call + offset) / calls * (steps - 1)).floor().clamp(max=steps - 2)  # 1 ... steps - 1
        time, earlier = ((step + 1) / steps).to(device), (step / steps).to(device)
        noise = noise_of_images(SEED, index.tolist(), image.shape[1:], call + 1, device)
        estimate = denoiser(denoiser.noisy(image, noise, time), time, label)
        rates, to = denoiser.rates(time), denoiser.rates(earlier)
        error, fraction = estimate.image.clamp(*denoiser.space.bounds) - image, estimate.fraction
        if fraction is None and large:
            fraction = torch.ones_like(error)
        cost = divergence(error, rates, to, fraction)
        nats = nats + cost.flatten(1).mean(1) * (steps - 1) / calls
    return nats / math.log(2)


@measures(BITS)
@torch.inference_mode()
def measure_bits(
    scoring: Scoring, calls: int | None, steps: int | None, variance: str | None = None, decoder: str = "posterior"
) -> dict[str, float]:
    """`bits_per_dimension`, the mean over all held-out images, and its standard error.

    Args:
        calls: network calls for each image; None: it is not measured.
        steps: see `bits_per_dimension`.
        variance: the sampler's: "large", or else the small one; a learned one goes before both.
        decoder: see `bits_per_dimension`.

    Raises:
        UserError: the denoiser's space has no pixels to describe.
    """
    if calls is None:
        return {}
    denoiser = scoring.denoiser.eval()
    if denoiser.space.bounds is None:
        raise UserError("metrics.vlb_calls asks for bits per dimension of pixels, and this model's space has none")
    with scoring.machine.autocast:
        how = (steps, calls, variance == "large", decoder)
        bits = [bits_per_dimension(denoiser, *batch, *how) for batch in scoring.batches()]
    bits = torch.cat(bits).double()
    return {
        "bits_per_dimension": bits.mean().item(),
        "bits_per_dimension_error": (bits.std() / math.sqrt(len(bits))).item(),
    }


def _cost_of_the_noisy_end(denoiser: Denoiser, image: Tensor) -> Tensor:
    """KL of q(noisy | image) at time 1 from the Gaussian that samplers start from, nats per dimension (B,)."""
    signal_rate, noise_rate = denoiser.rates(torch.ones(len(image), device=image.device))
    power = signal_rate**2 + noise_rate**2
    ratio = noise_rate**2 / power
    return ((ratio + (signal_rate * image) ** 2 / power - 1 - ratio.log()) / 2).flatten(1).mean(1)


def _cost_of_the_pixels(denoiser: Denoiser, pixels: Tensor, label, index: Tensor, steps: int, decoder: str) -> Tensor:
    """-log of the probability that a Gaussian around the image estimate gives the pixels' bins, nats per dimension (B,)."""
    image = denoiser.space.encode(pixels)
    first, second = (torch.full((len(image),), step / steps, device=image.device) for step in (1, 2))
    rates = signal_rate, noise_rate = denoiser.rates(first)
    noise = noise_of_images(SEED, index.tolist(), image.shape[1:], device=image.device)
    estimate, _, fraction = denoiser(denoiser.noisy(image, noise, first), first, label)
    estimate = estimate.clamp(*denoiser.space.bounds)
    if decoder == "noise":
        deviation = noise_rate / signal_rate
    else:  # the first step's own posterior is certain of the image; the second's stands in for it (arXiv:2102.09672, code)
        small, _ = variances(denoiser.rates(second), rates)
        _, large = variances(rates, (1.0, 0.0))
        deviation = (small if fraction is None else between(fraction, small, large)).sqrt()
    black, white = denoiser.space.bounds
    half = 0.5 / 255 * (white - black)
    upper = torch.where(pixels == 255, math.inf, (image + half - estimate) / deviation)
    lower = torch.where(pixels == 0, -math.inf, (image - half - estimate) / deviation)
    # On the side of the mean where both are negative, so that the difference of two numbers near 1 is never taken.
    upper, lower = torch.where(lower > 0, -lower, upper), torch.where(lower > 0, -upper, lower)
    probability = torch.special.ndtr(upper.double()) - torch.special.ndtr(lower.double())
    return -probability.clamp(min=1e-12).log().float().flatten(1).mean(1)
