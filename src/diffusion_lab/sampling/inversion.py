"""DDIM's way backwards: the noise that an image would be drawn from."""

from collections.abc import Callable

from torch import Tensor

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.sampling.samplers import Walk
from diffusion_lab.sampling.times import trailing


def invert(
    denoiser: Denoiser,
    image: Tensor,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 50,
    times: Callable = trailing,
    corrections: int = 0,
) -> Tensor:
    """The noise (B, C, H, W) from which `ddim`, with the same steps and times, draws `image` again, or nearly.

    DDIM's equation followed from the clean end (Song et al. 2021, arXiv:2010.02502, sec. 4.3): each step up takes the
    noise estimate where the step below suggests that it ends. A correction asks again where it then ended, and so comes
    nearer to the very point that DDIM would have come from (Pan et al. 2023, arXiv:2309.04907, eq. 10).

    Args:
        image: (B, C, H, W) in the denoiser's space.
        noise: standard normal, (B, C, H, W), taken to lie over the image at the clean end of the schedule. It hardly counts
            where that end is clean; where it is not, many noises lead to an image, and this one chooses among them.
        label: classes (B,) or None.
        steps: of the way; network calls are steps * (1 + corrections).
    """
    walk = Walk(denoiser, image, label, steps, times=times)
    noisy = image
    for step in reversed(range(steps)):
        (signal_rate, noise_rate), (below_signal_rate, below_noise_rate) = walk.rates[step], walk.rates[step + 1]
        scale = signal_rate / below_signal_rate
        for _ in range(1 + corrections):
            guess = scale * (noisy - below_noise_rate * noise) + noise_rate * noise
            noise = walk.predict(guess, walk.times[step], walk.rates[step]).noise
        noisy = scale * (noisy - below_noise_rate * noise) + noise_rate * noise
    return noisy / walk.start_rate
