"""Whether drawn images are what they were asked to be, as a classifier reads them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.errors import UserError
from diffusion_lab.figures import READ_AS_ASKED, REAL_READ
from diffusion_lab.metrics.classifier_features import sized
from diffusion_lab.metrics.scoring import Scoring, measures


@measures(READ_AS_ASKED, REAL_READ)
def measure_labels(scoring: Scoring, classifier: str | None) -> dict[str, float]:
    """`label_accuracy`, the share of generated images that a classifier reads as the class they were asked to be, and
    `real_label_accuracy`, the same of the held-out images.

    Args:
        classifier: a checkpoint, such as experiment=classifier leaves; None: it is not measured.

    Raises:
        UserError: the file is no such checkpoint, or its classifier knows another number of classes.
    """
    if classifier is None:
        return {}
    judge = load_checkpoint(classifier, scoring.trusted).model(NoisyClassifier).to(scoring.machine.device)
    classes = len(scoring.decoded.class_names)
    if len(judge.conditions) != classes:
        raise UserError(f"metrics.classifier={classifier} knows {len(judge.conditions)} classes, the data set has {classes}")
    real = [read(judge, batch.pixels) for batch in scoring.batches()]
    drawn = [read(judge, pixels) for pixels in scoring.generated.split(scoring.batch_size)]
    return {
        "label_accuracy": accuracy(drawn, scoring.labels),
        "real_label_accuracy": accuracy(real, scoring.held_out.labels[scoring.held_out.positions]),
    }


@torch.inference_mode()
def read(classifier: NoisyClassifier, pixels: Tensor) -> Tensor:
    """The class (B,) of each of some images, uint8 pixels (B, C, H, W), at the clean end of the schedule and in the
    size that the classifier reads."""
    image = classifier.space.encode(sized(pixels.to(classifier.device), classifier))
    time = torch.zeros(len(image), device=image.device)
    return classifier(classifier.rates(time)[0] * image, time).argmax(1).cpu()


def accuracy(found: Iterable[Tensor], labels: Tensor) -> float:
    """The share of images whose class was found to be their label (N,); those without a label (-1) do not count."""
    labels = labels.cpu()
    return (torch.cat(list(found)) == labels)[labels >= 0].double().mean().item()
