"""Denoisers with a closed form: oracles that a right sampler must agree with."""

import torch
from torch import Tensor, nn

from diffusion_lab.conditions import Classes
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.targets import Image
from diffusion_lab.spaces.pixels import Pixels


class IdealNetwork(nn.Module):
    """The best image estimate for a finite data set: the posterior mean, by Bayes' rule (shown the signal power)."""

    def __init__(self, images: Tensor):
        super().__init__()
        self.images = images

    def forward(self, noisy: Tensor, level: Tensor, label=None) -> Tensor:
        signal_rate, noise_power = level.sqrt(), 1 - level
        gaps = noisy[:, None] - signal_rate.view(-1, 1, 1, 1, 1) * self.images[None]
        weights = (-gaps.square().flatten(2).sum(2) / (2 * noise_power[:, None])).softmax(1)
        return (weights @ self.images.flatten(1)).view_as(noisy)


class MixtureNetwork(nn.Module):
    """The best image estimate for pixels of a mixture of Gaussians: weights, means and standard deviations (K,)."""

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor):
        super().__init__()
        self.weights, self.means, self.stds = weights, means, stds

    def forward(self, noisy: Tensor, level: Tensor, label=None) -> Tensor:
        signal_rate, noise_power = level.sqrt().view(-1, 1, 1, 1, 1), 1 - level.view(-1, 1, 1, 1, 1)
        variances = signal_rate**2 * self.stds**2 + noise_power
        gaps = noisy[..., None] - signal_rate * self.means
        shares = (self.weights.log() - variances.log() / 2 - gaps**2 / variances / 2).softmax(-1)
        return (shares * (self.means + signal_rate * self.stds**2 / variances * gaps)).sum(-1)


class CorrelatedNetwork(nn.Module):
    """The best image estimate for images (1, 1, D) drawn from N(mean (D,), covariance (D, D))."""

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        self.mean, self.covariance = mean, covariance

    def forward(self, noisy: Tensor, level: Tensor, label=None) -> Tensor:
        power = level[0]  # samplers show a batch one level
        marginal = power * self.covariance + (1 - power) * torch.eye(len(self.mean), dtype=noisy.dtype)
        gain = power.sqrt() * self.covariance @ torch.linalg.inv(marginal)
        return self.mean + (noisy - power.sqrt() * self.mean) @ gain.T


class GaussianNetwork(nn.Module):
    """The best image estimate for pixels drawn from N(mean, std^2) (shown the signal power)."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, noisy: Tensor, level: Tensor, label=None) -> Tensor:
        level = level.view(-1, 1, 1, 1)
        gain = level.sqrt() * self.std**2 / (level * self.std**2 + 1 - level)
        return self.mean + gain * (noisy - level.sqrt() * self.mean)


class LabelledNetwork(nn.Module):
    """One network for each label, and the last one for images without."""

    def __init__(self, *networks: nn.Module):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, noisy: Tensor, level: Tensor, label=None) -> Tensor:
        label = torch.full((len(noisy),), -1) if label is None else label
        outputs = torch.stack([network(noisy, level) for network in self.networks])
        return outputs[label, torch.arange(len(noisy))]


def ideal_denoiser(network: nn.Module, schedule: nn.Module, size: int = 4, mean: float = 0.0, std: float = 1.0, classes=0):
    """A denoiser of grey images of `size` pixels, whose network estimates the image and is shown the signal power."""
    space = Pixels(1, size, mean, std)
    return NetworkDenoiser(network, schedule, Image(), signal_power, space, Classes(classes))
