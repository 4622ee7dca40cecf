"""A training in latents, step by step."""

import torch
from torch import nn

from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.networks.unet import UNet
from diffusion_lab.process.levels import noise_power
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.targets import Noise
from diffusion_lab.process.times import stratified
from diffusion_lab.process.weightings import uniform as equal_weights
from diffusion_lab.spaces.latents import MeasuredLatents
from diffusion_lab.spaces.pixels import Standardised
from diffusion_lab.spaces.space import Space
from diffusion_lab.training.criteria import Denoising
from diffusion_lab.training.denoiser import DenoiserTraining
from diffusion_lab.training.teachers import Data


class Identity(nn.Module):
    channels, latent_channels, factor, variational = 3, 3, 1, False

    def moments(self, images):
        return images

    def decode(self, latents):
        return latents


def losses(space: Space, pixels: torch.Tensor) -> tuple[list[float], DenoiserTraining]:
    """Of ten steps."""
    space.measure([pixels])
    torch.manual_seed(0)
    network = UNet(3, 8, widths=(8, 8), heads=(0, 1))
    denoiser = NetworkDenoiser(network, Cosine(), Noise(), noise_power, space)
    criterion = Denoising(nn.MSELoss(reduction="none"), equal_weights, Data())
    settings = {"optimizer": None, "learning_rate": None, "seed": 0, "config": {}}
    module, found = DenoiserTraining(denoiser, criterion, stratified, 0.0, **settings), []
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=1e-3)
    for step in range(10):
        chosen = torch.arange(8) + 8 * step
        loss = module.objective(*module.draw(Batch(pixels[chosen], torch.full((8,), -1), chosen)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found, module


def test_with_an_identity_autoencoder_it_is_the_training_of_pixels():
    torch.manual_seed(1)
    pixels = torch.randint(0, 200, (80, 3, 8, 8), dtype=torch.uint8)
    (own, latents), (theirs, plain) = losses(MeasuredLatents(Identity(), 3, 8), pixels), losses(Standardised(3, 8), pixels)
    torch.testing.assert_close(torch.tensor(own), torch.tensor(theirs), atol=1e-6, rtol=0)
    assert max(own) - min(own) > 1e-3
    for mine, other in zip(latents.model.network.parameters(), plain.model.network.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)
    noise = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(latents.model.space.decode(noise), plain.model.space.decode(noise))
