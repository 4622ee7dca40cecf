"""Guidance: denoisers around a denoiser that lean more, or less, towards what a label asks for.

The convention everywhere: noise = unconditional + scale * (conditional - unconditional). Scale 0 is without the label,
1 the conditional denoiser as it was trained, and more exaggerates what the label changes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.denoiser import Denoiser, DenoiserAround, Prediction, ScaledDenoiser
from diffusion_lab.errors import UserError


class ClassifierFreeGuidance(DenoiserAround):
    """Guidance by the denoiser itself, without its label (Ho and Salimans 2022, arXiv:2207.12598, eq. 6; their w is
    scale - 1).

    Both passes run as one batch. Images without a label stay unconditional.

    Args:
        denoiser: trained with labels, some of them hidden.
        scale: 1 is the denoiser as it is, at its price; 0 the one without labels. One number, or one for each image (B,).
        interval: of noise levels, (lowest, highest) sigma = noise_rate / signal_rate, within which it guides; elsewhere
            the scale is 1 (Kynkaanniemi et al. 2024, arXiv:2404.07724). None: everywhere.
        rescale: in [0, 1], how far the guided estimate's standard deviation goes back to the conditional one's, against
            glaring images at large scales (Lin et al. 2023, arXiv:2305.08891, eq. 15 and 16).
        rescale_of: "output", what the network predicts, as in the paper and in diffusers; or "image", the image estimate,
            which does the same whatever the target. At high noise the two differ: there a predicted noise hardly changes in
            deviation, and its image estimate by far.

    Raises:
        UserError: the output is to be rescaled of a denoiser that is no network of its own.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Tensor = 1.0,
        interval: tuple[float, float] | None = None,
        rescale: float = 0.0,
        rescale_of: str = "image",
    ):
        super().__init__(denoiser)
        self.scale, self.interval, self.rescale = scale, interval, rescale
        self.target = None if rescale_of == "image" else getattr(denoiser.innermost, "target", None)
        if rescale_of != "image" and self.target is None:
            raise UserError("guidance.rescale_of=output needs a network's own output; this model has none: take image")

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        if label is None or (not isinstance(self.scale, Tensor) and self.scale == 1):
            return self.denoiser(noisy, time, label)
        guided = self._guided(time)
        if self.interval and not guided.any():
            return self.denoiser(noisy, time, label)
        labels = torch.cat([label, torch.full_like(label, -1)])
        both = self.denoiser(torch.cat([noisy, noisy]), torch.cat([time, time]), labels)
        (image, plain_image), (noise, plain_noise) = both.image.chunk(2), both.noise.chunk(2)
        fraction = None if both.fraction is None else both.fraction.chunk(2)[0]
        scale = torch.where(guided, self.scale, 1.0).to(noisy.dtype).view(-1, 1, 1, 1)
        guided_image = plain_image + scale * (image - plain_image)
        guided_noise = plain_noise + scale * (noise - plain_noise)
        if self.rescale and self.target is None:
            return self.of_image(self._rescaled(guided_image, image), noisy, time, fraction)
        if self.rescale:
            rates = self.rates(time)
            output = self._rescaled(self.target.of(guided_image, guided_noise, *rates), self.target.of(image, noise, *rates))
            return Prediction(*self.target.solve(output, noisy, *rates), fraction)
        return Prediction(guided_image, guided_noise, fraction)

    def _rescaled(self, guided: Tensor, conditional: Tensor) -> Tensor:
        """`guided` with its standard deviation, image by image, on the way to that of `conditional`."""
        ratio = conditional.std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True)
        return guided * (self.rescale * ratio + 1 - self.rescale)

    def _guided(self, time: Tensor) -> Tensor:
        """Which of the images (B,) are within the interval."""
        if self.interval is None:
            return torch.ones_like(time, dtype=torch.bool)
        signal_rate, noise_rate = self.schedule(time)
        lowest, highest = self.interval
        return (noise_rate >= lowest * signal_rate) & (noise_rate <= highest * signal_rate)


class DistilledGuidance(DenoiserAround):
    """Guidance that the denoiser has learned, at one call where `ClassifierFreeGuidance` takes two.

    Raises:
        UserError: the denoiser takes no scale, or was not trained with this one.
    """

    def __init__(self, denoiser: Denoiser, scale: float = 1.0):
        super().__init__(denoiser)
        self.scale = scale
        if not isinstance(denoiser, ScaledDenoiser):
            raise UserError("guidance=distilled needs a checkpoint that experiment=guidance_distillation leaves")
        lowest, highest = denoiser.scales
        if not lowest <= scale <= highest:
            raise UserError(f"guidance.scale={scale} is none of those that were distilled, {lowest:g} to {highest:g}")

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        return self.denoiser(noisy, time, label, torch.full_like(time, self.scale))


class ClassifierGuidance(DenoiserAround):
    """Guidance of the unconditional denoiser by the gradient of a classifier of noisy images (Dhariwal and Nichol 2021,
    arXiv:2105.05233, algorithm 2): noise = unconditional - scale * noise_rate * gradient of log p(label | noisy).

    By Bayes' rule that is the convention above, and scale 1 the conditional distribution. Images without a label stay
    unconditional.

    Raises:
        UserError: the classifier was trained on other noise or other pixels than the denoiser.
    """

    def __init__(self, denoiser: Denoiser, classifier: NoisyClassifier, scale: float = 1.0):
        super().__init__(denoiser)
        self.classifier, self.scale = classifier.to(denoiser.device), scale
        self.conditions = classifier.conditions
        if not self.sees_as(classifier):
            raise UserError(
                "guidance.checkpoint was trained with another schedule or on other pixels than the denoiser: "
                "train it with the same data, space and schedule"
            )

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        hidden = None if label is None else torch.full_like(label, -1)
        image, noise, fraction = self.denoiser(noisy, time, hidden)
        if label is None or self.scale == 0:
            return Prediction(image, noise, fraction)
        signal_rate, noise_rate = self.rates(time)
        shift = self.scale * noise_rate * self._gradient(noisy, time, label)
        # Where there is no signal there is nothing to classify either: the gradient vanishes with the rate.
        return Prediction(image + noise_rate / signal_rate.clamp(min=1e-6) * shift, noise - shift, fraction)

    def _gradient(self, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Of log p(label | noisy) in `noisy`, (B, C, H, W); zero where there is no label."""
        with torch.inference_mode(False), torch.enable_grad():
            point = noisy.detach().clone().requires_grad_()
            logits = self.classifier(point, time.clone())
            loss = F.cross_entropy(logits.float(), label.clone(), ignore_index=-1, reduction="sum")
            return -torch.autograd.grad(loss, point)[0]


def classifier_guidance(
    denoiser: Denoiser, checkpoint: str, scale: float = 1.0, trusted: Sequence[str] = ()
) -> ClassifierGuidance:
    """`ClassifierGuidance` with the classifier of a checkpoint file, such as experiment=noisy_classifier leaves.

    Args:
        trusted: packages whose classes that checkpoint may name.

    Raises:
        UserError: the file is no such checkpoint, or its classifier was trained on other noise or other pixels.
    """
    classifier = load_checkpoint(checkpoint, trusted).model(NoisyClassifier)
    return ClassifierGuidance(denoiser, classifier.requires_grad_(False), scale)
