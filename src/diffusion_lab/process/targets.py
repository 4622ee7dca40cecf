"""What the network's output means.

A target turns (image, noise) into what the network should give (`of`), and what it gave back into both estimates
(`solve`); `gain` is how an error of the output shows in the image estimate. Images, noise and outputs are (B, C, H, W);
rates are (B, 1, 1, 1) and above 0. `input_scale` is what the noisy image is multiplied by before the network sees it.
"""

from torch import Tensor


def unit_power(signal_rate: Tensor, noise_rate: Tensor, sigma_data: float = 1.0) -> Tensor:
    """The factor that gives noisy images of standard deviation `sigma_data` unit variance; 1 where variance is preserved."""
    return (signal_rate**2 * sigma_data**2 + noise_rate**2).rsqrt()


class Noise:
    """The network predicts the noise (epsilon; Ho et al. 2020, arXiv:2006.11239, eq. 14)."""

    input_scale = staticmethod(unit_power)

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise)."""
        return (noisy - noise_rate * output) / signal_rate, output

    def gain(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise_rate / signal_rate


class Image:
    """The network predicts the clean image (x_0; Salimans and Ho 2022, arXiv:2202.00512, sec. 4)."""

    input_scale = staticmethod(unit_power)

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return image

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise)."""
        return output, (noisy - signal_rate * output) / noise_rate

    def gain(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return signal_rate / signal_rate


class Velocity:
    """The network predicts v = signal_rate * noise - noise_rate * image (Salimans and Ho 2022, arXiv:2202.00512, app. D).

    Where variance is preserved, both estimates follow from v without a division: neither end is ill-conditioned.
    """

    input_scale = staticmethod(unit_power)

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return signal_rate * noise - noise_rate * image

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise)."""
        power = signal_rate**2 + noise_rate**2
        image = (signal_rate * noisy - noise_rate * output) / power
        return image, (noise_rate * noisy + signal_rate * output) / power

    def gain(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise_rate / (signal_rate**2 + noise_rate**2)


class FlowVelocity:
    """The network predicts noise - image, the direction of the straight line between them (Lipman et al. 2023,
    arXiv:2210.02747, eq. 23; Liu et al. 2022, arXiv:2209.03003, eq. 1). Made for the flow schedule; right for any."""

    input_scale = staticmethod(unit_power)

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise - image

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise)."""
        total = signal_rate + noise_rate
        return (noisy - noise_rate * output) / total, (noisy + signal_rate * output) / total

    def gain(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise_rate / (signal_rate + noise_rate)


class Edm:
    """EDM's preconditioning (Karras et al. 2022, arXiv:2206.00364, eq. 7, table 1): with sigma = noise_rate / signal_rate,
    image = c_skip(sigma) * noisy / signal_rate + c_out(sigma) * output, so that input and output both have unit variance.

    Args:
        sigma_data: standard deviation of the images in the normalised space.
    """

    def __init__(self, sigma_data: float = 1.0):
        self.sigma_data = sigma_data

    def input_scale(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return unit_power(signal_rate, noise_rate, self.sigma_data)

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        sigma = noise_rate / signal_rate
        return (image - self._skip(sigma) * (image + sigma * noise)) / self.gain(signal_rate, noise_rate)

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise)."""
        sigma = noise_rate / signal_rate
        skip, gain = self._skip(sigma), self.gain(signal_rate, noise_rate)
        # The noise is written without the difference of noisy and image, which float rounding spoils at small sigma.
        noise = (sigma / (sigma**2 + self.sigma_data**2)) * noisy / signal_rate - gain / sigma * output
        return skip * noisy / signal_rate + gain * output, noise

    def gain(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        sigma = noise_rate / signal_rate
        return sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()

    def _skip(self, sigma: Tensor) -> Tensor:
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)
