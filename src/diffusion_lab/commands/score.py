"""The figures and the sample grid of a denoiser as a config asks for them; `train.py` and `evaluate.py` share this."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from torch import Tensor

from diffusion_lab.data.cache import Decoded
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.experiments import pictures
from diffusion_lab.hardware import autocast
from diffusion_lab.metrics.evaluation import evaluate
from diffusion_lab.metrics.labels import judge
from diffusion_lab.sampling.draw import draw


def score(config: dict, decoded: Decoded, denoiser: Denoiser, precision: str) -> dict:
    """Build guidance, sampler, extractor, KID and the classifier from `config` and evaluate `denoiser` with them."""
    metrics = config["metrics"]
    reader = metrics.get("classifier")
    return evaluate(
        denoiser,
        decoded,
        guidance=instantiate(config["guidance"]),
        sampler=instantiate(config["sampler"]),
        extractor=instantiate(metrics["extractor"]),
        kid=instantiate(metrics["kid"]),
        protocol=metrics["protocol"],
        samples=metrics["samples"],
        batch_size=metrics["batch_size"],
        seed=config["seed"],
        cache_dir=config["data"]["cache_dir"],
        autocast=autocast(precision, denoiser.mean.device),
        classifier=judge(reader, config["data"]["num_classes"]).to(denoiser.mean.device) if reader else None,
        vlb_calls=metrics.get("vlb_calls"),
        vlb_steps=config["variance"]["steps"],
        vlb_large=config["sampler"].get("variance") == "large",
    )


def scoring_calls(config: dict, decoded: Decoded) -> int:
    """Network calls of `score`, or somewhat more than those."""
    metrics = config["metrics"]
    drawn, held_out = (-(-count // metrics["batch_size"]) for count in (metrics["samples"], len(decoded.held_out)))
    vlb = metrics.get("vlb_calls")
    return drawn * config["sampler"]["steps"] + held_out * (2 + vlb if vlb else 1)


def draw_grid(config: dict, decoded: Decoded, precision: str, denoiser: Denoiser, file: Path) -> Path:
    """Draw the grid of fixed noise: at every epoch the same, so that one sees the network learn."""
    count, sampler = config["grid"]["count"], instantiate(config["sampler"])
    denoiser = instantiate(config["guidance"])(denoiser)
    context, labels = autocast(precision, denoiser.mean.device), class_labels(config, count)
    batches = draw(denoiser, sampler, decoded.image_shape, count, config["seed"], count, labels, context)
    return pictures.save_grid(torch.cat(list(batches)), file)


def class_labels(config: dict, count: int) -> Tensor | None:
    """Each class in turn (count,), where there are classes."""
    classes = config["data"]["num_classes"]
    return torch.arange(count) % classes if classes else None
