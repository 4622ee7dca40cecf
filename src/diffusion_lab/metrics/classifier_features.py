"""Features of a classifier that was trained on the user's own images: the judge that knows the domain."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.errors import UserError
from diffusion_lab.metrics.features import digest


class ClassifierFeatures(nn.Module):
    """What a classifier's last layer reads, of clean images.

    Args:
        checkpoint: such as experiment=classifier leaves.

    Raises:
        UserError: there is none, it is of something else, or has no linear layer at its end.
    """

    def __init__(self, checkpoint: str | None):
        super().__init__()
        if checkpoint is None:
            raise UserError(
                "metrics/extractor=classifier wants metrics.classifier=FILE: a checkpoint that experiment=classifier leaves"
            )
        self.classifier = load_checkpoint(checkpoint).model(NoisyClassifier).requires_grad_(False)
        linear = [module for module in self.classifier.modules() if isinstance(module, nn.Linear)]
        if not linear or linear[-1].out_features != len(self.classifier.conditions):
            raise UserError(
                f"metrics.classifier={checkpoint}: its network ends in no linear layer, whose features to compare"
            )
        self.last = linear[-1]
        self.num_features = self.last.in_features
        self.resolution = self.classifier.space.pixel_shape[-1]
        self.identity = f"classifier-{digest(Path(checkpoint))}"

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = sized(pixels, self.classifier)
        read = []
        hook = self.last.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            time = torch.zeros(len(pixels), device=pixels.device)
            self.classifier(self.classifier.rates(time)[0] * self.classifier.space.encode(pixels), time)
        finally:
            hook.remove()
        return read[0]


def sized(pixels: Tensor, classifier: NoisyClassifier) -> Tensor:
    """Pixels (B, C, H, W), values from 0 to 255, in the size that a classifier reads.

    Raises:
        UserError: it reads images of other channels.
    """
    channels, *size = classifier.space.pixel_shape
    if pixels.shape[1] != channels:
        raise UserError(f"metrics.classifier reads images of {channels} channels, and these have {pixels.shape[1]}")
    if list(pixels.shape[2:]) == size:
        return pixels
    return F.interpolate(pixels.float(), size, mode="bilinear", antialias=True)
