"""Train one classifier of noisy images with Lightning, then see how well what was saved reads held-out ones."""

from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from torch import nn

from diffusion_lab.checkpoints import build_classifier
from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.commands.loop import images_of, normalisation, precision_of, train_and_score
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Images, Split
from diffusion_lab.experiments.accuracy_figure import accuracy_figure
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import autocast, choose_compile, pick_device, training_layout
from diffusion_lab.metrics.classification import reading_figures
from diffusion_lab.metrics.evaluation import batches_of
from diffusion_lab.training.classifier import ClassifierTraining

CHOICES = ("task", "data", "network", "schedule", "times", "level", "pixels")  # the others play no part


def fit(config: dict, run: Run, network: nn.Module, decoded: Decoded) -> dict:
    """Train `network` as `config` says, from the last checkpoint where there is one; returns the run's results."""
    config = {**config, "choices": {group: config["choices"][group] for group in CHOICES}}
    parts = partial(training_parts, config, network, decoded)
    return train_and_score(config, run, parts, [], partial(_score, config, run, decoded))


def training_parts(config: dict, network: nn.Module, decoded: Decoded) -> tuple[ClassifierTraining, Images]:
    """What Lightning trains, and on what."""
    images = images_of(config, decoded)
    device = pick_device(config["trainer"]["accelerator"])
    parts = (instantiate(config[part]) for part in ("schedule", "level"))
    classifier = NoisyClassifier(network, *parts, *normalisation(config, images)).to(memory_format=training_layout(device))
    module = ClassifierTraining(
        classifier,
        *(instantiate(config[part]) for part in ("times", "optimizer", "learning_rate")),
        seed=config["seed"],
        config=config,
        compiled=choose_compile(config["compile"], device),
    )
    return module, images


def _score(config: dict, run: Run, decoded: Decoded, checkpoint: dict) -> tuple[nn.Module, dict, dict[str, Path]]:
    device = pick_device(config["trainer"]["accelerator"])
    classifier = build_classifier(checkpoint, trusted=None).to(device)
    batches = partial(batches_of, Split(decoded, decoded.held_out), config["metrics"]["batch_size"])
    figures = reading_figures(classifier, batches, autocast(precision_of(config), device))
    figure = accuracy_figure(figures["accuracy_by_time"], classifier.schedule, config["data"]["num_classes"])
    run.accuracy.parent.mkdir(exist_ok=True)
    figure.savefig(run.accuracy)
    return classifier.network, figures, {"accuracy": run.accuracy}
