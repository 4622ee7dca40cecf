"""The LightningModule of an Autoencoder: one training step, and how near it comes to held-out images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from diffusion_lab.autoencoder import Autoencoder
from diffusion_lab.data.images import Batch
from diffusion_lab.spaces.latents import deviation_of, mean_of
from diffusion_lab.training.module import Training


class AutoencoderTraining(Training):
    """Trains an autoencoder by mean absolute error, a perceptual distance, and a little KL divergence from a standard normal
    distribution (Rombach et al. 2022, arXiv:2112.10752, sec. 3.1 and appendix G).

    Args:
        model: the autoencoder.
        distance: see `diffusion_lab.training.perceptual`.
        perceptual, kl, adversarial: weights of the terms beside the mean absolute error; without the last there is no
            discriminator.
        settings: of any Training.
    """

    def __init__(self, model: Autoencoder, distance: Callable, perceptual: float, kl: float, adversarial: float, **settings):
        super().__init__(model, **settings)
        self.distance, self.perceptual, self.kl, self.adversarial = distance, perceptual, kl, adversarial
        self.discriminator = discriminator(model.space.shape[0]) if adversarial else None

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        image, network = self.model.space.encode(batch.pixels), self.model.network
        small = (len(image), network.latent_channels, *(side // network.factor for side in image.shape[2:]))
        return image, self.noise_like(torch.empty(small, device=image.device))

    def objective(self, image: Tensor, noise: Tensor) -> Tensor:
        """The loss, a scalar, of images (B, C, H, W) from -1 to 1, with this noise on their latents."""
        network = self.model.network
        moments = network.moments(image)
        mean, deviation = mean_of(moments, network.latent_channels), deviation_of(moments, network.latent_channels)
        made = network.decode(mean if deviation is None else mean + deviation * noise)
        loss = (made - image).abs().mean()
        if self.perceptual:
            loss = loss + self.perceptual * self.distance(made, image).mean()
        if deviation is not None:
            loss = loss + self.kl * 0.5 * (mean.square() + deviation.square() - 2 * deviation.log() - 1).mean()
        return loss if self.discriminator is None else loss + self._adversarial(made, image)

    def _adversarial(self, made: Tensor, image: Tensor) -> Tensor:
        """Hinge losses of both sides (Esser et al. 2021, arXiv:2012.09841): each moves its own weights alone."""
        judge = self.discriminator
        fixed = {name: weights.detach() for name, weights in judge.named_parameters()}
        fooled = -functional_call(judge, fixed, (made,)).mean()
        told = F.relu(1 - judge(image)).mean() + F.relu(1 + judge(made.detach())).mean()
        return self.adversarial * fooled + told

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        error = (self.model(batch.pixels) - batch.pixels / 255).flatten(1)
        found = {"l1": error.abs().mean(1), "psnr": -10 * error.square().mean(1).clamp(min=1e-10).log10()}
        for name, values in found.items():
            self.log(f"val/{name}", values.mean(), batch_size=len(values), sync_dist=True)


def discriminator(channels: int, width: int = 32) -> nn.Module:
    """Says of each patch of images (B, C, H, W) whether it is real (Isola et al. 2017, arXiv:1611.07004, sec. 3.2.2)."""
    layers, inputs = [], channels
    for outputs in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.LeakyReLU(0.2)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(inputs, 1, 3, padding=1))
