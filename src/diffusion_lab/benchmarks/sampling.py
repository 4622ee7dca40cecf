"""Sampling against the bare forward pass, and scoring against the bare extractor."""

from pathlib import Path

import torch

from diffusion_lab.benchmarks.subject import experiment, random_images, title, training_parts
from diffusion_lab.benchmarks.timing import Figure, compare, in_turns
from diffusion_lab.data.images import Split, batches_of
from diffusion_lab.hardware import autocast, choose_precision, pick_device
from diffusion_lab.metrics.features import cached_features, features_of
from diffusion_lab.parts import build
from diffusion_lab.sampling.draw import draw


def against_forward_pass(folder: Path, rounds: int, seconds: float, overrides: list[str]) -> list[Figure]:
    """Images a second and network call of sample.py's drawing, against the network alone at the same batch."""
    config = experiment(*overrides)
    device = pick_device(config["trainer"]["accelerator"])
    count, steps = config["batch_size"], config["sampler"]["steps"]
    images = random_images(config, folder, count)
    denoiser = training_parts(config, images, folder)[0].model.to(device, memory_format=torch.channels_last)
    sampler, context = build(config["sampler"], "sampler"), autocast(choose_precision("auto", device), device)
    label = torch.zeros(count, dtype=torch.int64)

    def sampling() -> int:
        list(draw(denoiser, sampler, count, 0, count, label, context))
        return count * steps

    noisy = torch.randn(count, *images.image_shape).to(device, memory_format=torch.channels_last)
    level, classes = torch.rand(count, device=device), label.to(device)

    def forward() -> int:
        denoiser.eval()
        with torch.inference_mode(), context:
            for _ in range(steps):
                denoiser.network(noisy, level, classes)
        return count * steps

    rates = in_turns({"sampling": sampling, "forward pass alone": forward}, rounds, seconds)
    what = f"sampling, {steps} calls, {title(config)}"
    return [compare(what, "images/s per call", rates, "sampling", "forward pass alone", "≥ 0.97")]


def against_extractor(folder: Path, rounds: int, seconds: float, overrides: list[str]) -> list[Figure]:
    """Images a second while scoring, against the extractor alone; real images that a second evaluation extracts again."""
    config = experiment(*overrides)
    device = pick_device(config["trainer"]["accelerator"])
    size = config["metrics"]["batch_size"]
    decoded = random_images(config, folder, 1, held_out=size)
    split = Split(decoded, decoded.held_out)
    extractor = build(config["metrics"]["extractor"], "metrics.extractor").to(device)
    pixels = split.__getitems__(range(size)).pixels.to(device)

    def scoring() -> int:
        return len(features_of((batch.pixels for batch in batches_of(split, size)), extractor))

    def alone() -> int:
        with torch.inference_mode():
            return len(extractor(pixels))

    rates = in_turns({"scoring": scoring, "extractor alone": alone}, rounds, seconds)
    what = f"scoring, {extractor.identity}, batch {size}"
    return [
        compare(what, "images/s", rates, "scoring", "extractor alone", "≥ 0.95"),
        Figure(
            "real images extracted again by a second evaluation", _extracted_again(split, extractor, folder), "", aim="0"
        ),
    ]


def _extracted_again(split: Split, extractor: torch.nn.Module, folder: Path) -> int:
    counted = []
    for _ in range(2):
        seen = []
        hook = extractor.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(len(output)))
        cached_features((batch.pixels for batch in batches_of(split, 64)), extractor, "benchmark", str(folder))
        hook.remove()
        counted.append(sum(seen))
    return counted[1]
