"""A step back from `noisy` to an earlier time: the Gaussian q(earlier | noisy, image), and what a model loses on it.

Rates are numbers or tensors of any shape that fits; `to` is the earlier time. (Ho et al. 2020, arXiv:2006.11239, eq. 6
and 7; for any signal and noise rates Kingma et al. 2021, arXiv:2107.00630, appendix A.)
"""

from torch import Tensor

Rates = tuple[Tensor | float, Tensor | float]


def variances(rates: Rates, to: Rates) -> tuple[Tensor | float, Tensor | float]:
    """(small, large): the variance of q(earlier | noisy, image), beta tilde, and that of the step forward, beta.

    They are the two ends for the variance of a model's step (arXiv:2006.11239, sec. 3.2).
    """
    (signal_rate, noise_rate), (to_signal_rate, to_noise_rate) = rates, to
    large = noise_rate**2 - (signal_rate / to_signal_rate * to_noise_rate) ** 2
    return large * (to_noise_rate / noise_rate) ** 2, large


def between(fraction: Tensor, small: Tensor | float, large: Tensor | float) -> Tensor:
    """The learned variance, a geometric mean of the two (Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 15)."""
    return large**fraction * small ** (1 - fraction)


def divergence(error: Tensor, rates: Rates, to: Rates, fraction: Tensor | None = None) -> Tensor:
    """KL(q(earlier | noisy, image) || p(earlier | noisy)) of each pixel, in nats (arXiv:2006.11239, eq. 8).

    Args:
        error: of the image estimate, (B, C, H, W).
        fraction: of the learned variance; None for a model whose variance is the small one.
    """
    (_, noise_rate), (to_signal_rate, to_noise_rate) = rates, to
    _, large = variances(rates, to)
    shift = large * (to_signal_rate / (noise_rate * to_noise_rate) * error) ** 2  # squared, in units of the small variance
    if fraction is None:
        return shift / 2
    ratio = (noise_rate / to_noise_rate) ** 2  # of the large variance to the small one; both are 0 on a schedule's plateau
    return (fraction * ratio.log() + (1 + shift) * ratio**-fraction - 1) / 2
