"""Whether drawn images are what they were asked to be, as a classifier reads them."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from diffusion_lab.checkpoints import build_classifier, load_checkpoint
from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.data.images import Batch
from diffusion_lab.errors import UserError


def judge(checkpoint: str, classes: int) -> NoisyClassifier:
    """The classifier of a checkpoint, such as experiment=classifier leaves.

    Raises:
        UserError: the file is no such checkpoint, or its classifier knows another number of classes.
    """
    loaded = load_checkpoint(checkpoint)
    known = loaded["config"]["data"]["num_classes"]
    if known != classes:
        raise UserError(f"metrics.classifier={checkpoint} knows {known} classes, the data set has {classes}")
    return build_classifier(loaded)


@torch.inference_mode()
def read(classifier: NoisyClassifier, pixels: Tensor) -> Tensor:
    """The class (B,) of each of some images, uint8 pixels (B, C, H, W), at the clean end of the classifier's schedule."""
    image = classifier.normalise(pixels.to(classifier.mean.device))
    time = torch.zeros(len(image), device=image.device)
    return classifier(classifier.rates(time)[0] * image, time).argmax(1).cpu()


def reading(classifier: NoisyClassifier | None, batches: Iterable[Tensor], found: list[Tensor]) -> Iterator[Tensor]:
    """Hand on batches of images, and add their classes to `found`, where there is a classifier."""
    for pixels in batches:
        if classifier:
            found.append(read(classifier, pixels))
        yield pixels


def accuracy(found: list[Tensor], labels: Tensor) -> float:
    """The share of images whose class was found to be their label (N,); those without a label (-1) do not count."""
    labels = labels.cpu()
    return (torch.cat(found) == labels)[labels >= 0].double().mean().item()


def real_accuracy(classifier: NoisyClassifier, batches: Iterable[Batch]) -> float:
    """The accuracy on real images."""
    pairs = [(read(classifier, batch.pixels), batch.label) for batch in batches]
    return accuracy([found for found, _ in pairs], torch.cat([label for _, label in pairs]))
