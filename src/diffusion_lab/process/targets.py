"""What the network's output means, and the noise level it is shown.

A target turns (image, noise) into what the network should give (`of`), and what it gave back into both estimates
(`solve`). Images, noise and outputs are (B, C, H, W); rates are (B, 1, 1, 1).
"""

from torch import Tensor


class Noise:
    """The network predicts the noise (epsilon; Ho et al. 2020, arXiv:2006.11239, eq. 14) and is shown the noise power."""

    def level(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise_rate**2

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return noise

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise). Needs signal_rate > 0."""
        return (noisy - noise_rate * output) / signal_rate, output


class Image:
    """The network predicts the clean image (x_0; Salimans and Ho 2022, arXiv:2202.00512) and is shown the signal power."""

    def level(self, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return signal_rate**2

    def of(self, image: Tensor, noise: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return image

    def solve(self, output: Tensor, noisy: Tensor, signal_rate: Tensor, noise_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image, noise). Needs noise_rate > 0."""
        return output, (noisy - signal_rate * output) / noise_rate
