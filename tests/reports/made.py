"""Runs made up for tests, with known figures, written as train.py writes them."""

from pathlib import Path

import numpy as np

from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.report import report

BETTER = -0.06
CHOICES = {"data": "flowers", "network": "unet", "schedule": "cosine", "target": "noise", "loss": "mae", "sampler": "ddim"}
RESULTS = {
    "fid": 50.0,
    "noise_loss": 0.2,
    "image_loss": 0.3,
    "samples": 1000,
    "real_images": 1638,
    "network_calls": 4,
    "feature_extractor": "efficientnet_lite0",
    "extractor_resolution": 128,
    "protocol": "standard",
    "train_seconds": 60.0,
    "parameters": 1000,
    "epochs": 2,
    "steps": 100,
}


def made_config(seed: int = 0, settings: dict | None = None, **choices) -> dict:
    words = {**CHOICES, **choices}
    parts = {group: {"_target_": f"package.{word}"} for group, word in words.items() if group not in ("data", "sampler")}
    config = {"name": "made", "seed": seed, "epochs": 2, **parts}
    config |= {"data": {"name": words["data"], "image_size": 64}, "sampler": {"_target_": "s", "steps": 4}}
    config |= {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3}, "choices": words, "grid": {"count": 9}}
    for key, value in (settings or {}).items():
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    return config


def made_run(root: Path, kid: float | None, seed: int = 0, results: dict | None = None, settings=None, **choices) -> Run:
    """A finished run with this KID; `results` replaces other figures, None among them leaves one out."""
    config = made_config(seed, settings, **choices)
    name = "_".join(f"{key}-{value}" for key, value in {**choices, **(settings or {}), "seed": seed}.items())
    run = Run(root / name)
    run.begin(config)
    figures = {**RESULTS, "kid": kid, "kid_std": 0.01, "seed": seed, "choices": config["choices"], **(results or {})}
    run.finish({**{key: value for key, value in figures.items() if value is not None}, "config_hash": config_hash(config)})
    return run


def grid(root, seeds=3, noise=0.002):
    """Cosine is better than linear by 0.06 on average; the losses do not matter."""
    rng = np.random.default_rng(1)
    return [
        made_run(
            root,
            0.2 + (BETTER if schedule == "cosine" else 0) + noise * rng.standard_normal(),
            seed=seed,
            schedule=schedule,
            loss=loss,
        )
        for seed in range(seeds)
        for loss in ("mae", "mse")
        for schedule in ("cosine", "linear")
    ]


def sections(runs, objective="kid", with_pictures=False):
    found = report(runs, objective, "test", with_pictures)
    return {section.title: section for section in found.sections}, found
