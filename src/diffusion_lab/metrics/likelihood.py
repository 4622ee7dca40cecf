"""The variational bound on the negative log-likelihood of images, in bits per dimension."""

import math

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.figures import BITS
from diffusion_lab.metrics.scoring import Scoring, measures
from diffusion_lab.process.posterior import divergence
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
) -> Tensor:
    """An estimate of the bound for each image, (B,): what a sampler of `steps` ancestral steps would need to describe it.

    The bound is the sum of three costs (Ho et al. 2020, arXiv:2006.11239, eq. 5): of the noisy end, of each step back, and
    of the 8-bit pixels given the last image estimate, a Gaussian cut into their 256 bins (sec. 3.3). The steps' sum is
    estimated from `calls` of them, spread evenly; their variance is the learned one where the network predicts it, else
    the small or the large one (see `diffusion_lab.process.posterior`).

    A schedule that begins far below one grey level makes a model pay for telling finer ones, unless it knows of them.

    Args:
        pixels: uint8 (B, C, H, W).
        label: classes (B,) or None.
        index: (B,) fixes each image's noise and steps.
        steps: of the sampler; a discrete schedule's own number.
        calls: network calls for each image, beside one for the last step.
        large: which variance.
    """
    image = denoiser.space.encode(pixels)
    device = image.device
    nats = _cost_of_the_noisy_end(denoiser, image) + _cost_of_the_pixels(denoiser, pixels, label, index, 1 / steps)
    offset = times_of_images(index)  # in [0, 1): which step of each stratum
    for call in range(calls):
        step = 1 + ((call + offset) / calls * (steps - 1)).floor().clamp(max=steps - 2)  # 1 ... steps - 1
        time, earlier = ((step + 1) / steps).to(device), (step / steps).to(device)
        noise = noise_of_images(SEED, index.tolist(), image.shape[1:], drawing=call + 1).to(device)
        estimate = denoiser(denoiser.noisy(image, noise, time), time, label)
        rates, to = denoiser.rates(time), denoiser.rates(earlier)
        error, fraction = estimate.image - image, estimate.fraction
        if fraction is None and large:
            fraction = torch.ones_like(error)
        cost = divergence(error, rates, to, fraction)
        nats = nats + cost.flatten(1).mean(1) * (steps - 1) / calls
    return nats / math.log(2)


@measures(BITS)
@torch.inference_mode()
def measure_bits(scoring: Scoring, calls: int | None, steps: int | None, variance: str | None = None) -> dict[str, float]:
    """`bits_per_dimension`, the mean over all held-out images, and its standard error.

    Args:
        calls: network calls for each image; None: it is not measured.
        steps: see `bits_per_dimension`.
        variance: the sampler's: "large", or else the small one; a learned one goes before both.

    Raises:
        UserError: the denoiser's space has no pixels to describe.
    """
    if calls is None:
        return {}
    denoiser = scoring.denoiser.eval()
    if denoiser.space.bounds is None:
        raise UserError("metrics.vlb_calls asks for bits per dimension of pixels, and this model's space has none")
    with scoring.machine.autocast:
        bits = [bits_per_dimension(denoiser, *batch, steps, calls, variance == "large") for batch in scoring.batches()]
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


def _cost_of_the_pixels(denoiser: Denoiser, pixels: Tensor, label, index: Tensor, time: float) -> Tensor:
    """-log of the probability that a Gaussian around the image estimate gives the pixels' bins, nats per dimension (B,).

    Its deviation is noise_rate / signal_rate, that of an image of which nothing but the noisy one is known.
    """
    image = denoiser.space.encode(pixels)
    times = torch.full((len(image),), time, device=image.device)
    signal_rate, noise_rate = denoiser.rates(times)
    noise = noise_of_images(SEED, index.tolist(), image.shape[1:]).to(image.device)
    estimate = denoiser(denoiser.noisy(image, noise, times), times, label).image
    deviation = noise_rate / signal_rate
    black, white = denoiser.space.bounds
    half = 0.5 / 255 * (white - black)
    upper = torch.where(pixels == 255, math.inf, (image + half - estimate) / deviation)
    lower = torch.where(pixels == 0, -math.inf, (image - half - estimate) / deviation)
    # On the side of the mean where both are negative, so that the difference of two numbers near 1 is never taken.
    upper, lower = torch.where(lower > 0, -lower, upper), torch.where(lower > 0, -upper, lower)
    probability = torch.special.ndtr(upper.double()) - torch.special.ndtr(lower.double())
    return -probability.clamp(min=1e-12).log().float().flatten(1).mean(1)
