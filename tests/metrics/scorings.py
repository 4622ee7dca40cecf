"""Small scorings of images held in memory."""

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_lab.data.cache import Decoded
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.hardware import Machine
from diffusion_lab.metrics.scoring import Scoring
from diffusion_lab.sampling.samplers import ddim


class Means(nn.Module):
    """An extractor whose two features are an image's mean and deviation."""

    identity, resolution, num_features = "means", 4, 2

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels.float().flatten(1) / 255
        return torch.stack([values.mean(1), values.std(1)], 1)


def scoring_of(
    denoiser: Denoiser, pixels: Tensor, labels: Tensor | None = None, cache_dir="", classes: int = 0, **changes
) -> Scoring:
    """A scoring of `denoiser` on held-out uint8 pixels (N, C, H, W), in batches of 16; one more image is to train on."""
    count = len(pixels)
    images = np.concatenate([pixels.permute(0, 2, 3, 1).numpy(), np.zeros_like(pixels[:1].permute(0, 2, 3, 1).numpy())])
    labels = np.append(np.full(count, -1) if labels is None else labels.numpy(), -1)
    names = [str(name) for name in range(classes)]
    decoded = Decoded(images, labels, np.array([count]), np.arange(count), names, f"{count}-images")
    settings = {"protocol": "standard", "samples": 40, "batch_size": 16, "seed": 0, "cache_dir": cache_dir, **changes}
    guided = settings.pop("guided", denoiser)
    return Scoring(denoiser, guided, ddim, decoded, Means(), Machine(torch.device("cpu"), "32-true"), **settings)
