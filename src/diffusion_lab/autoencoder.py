"""An Autoencoder makes images small and large again: what diffusion in a latent space stands on."""

import torch
from torch import Tensor, nn

from diffusion_lab.spaces.latents import mean_of
from diffusion_lab.spaces.space import Space


class Autoencoder(nn.Module):
    """A network with the space of the images that it takes.

    Args:
        network: see `diffusion_lab.networks.autoencoder`.
        space: of its images, pixels from -1 to 1.
    """

    made_by = "train.py task=autoencoder"

    def __init__(self, network: nn.Module, space: Space):
        super().__init__()
        self.network = network
        self.space = space

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.parameters()).device

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, C, H, W) made small and large again: values from 0 to 1."""
        latents = mean_of(self.network.moments(self.space.encode(pixels)), self.network.latent_channels)
        return self.space.decode(self.network.decode(latents))
