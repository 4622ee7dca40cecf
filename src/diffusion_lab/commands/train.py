"""`train.py`: one run, from its config to results.json; skipped if finished, resumed if interrupted."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check, check_labels, plain
from diffusion_lab.commands.console import command, print_accuracy, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.job import attempt, once
from diffusion_lab.experiments.runs import Run

if TYPE_CHECKING:
    from diffusion_lab.data.sources import Source


def train(cfg: DictConfig, folder: str, is_multirun: bool) -> float:
    """Run one experiment in `folder` and return `cfg.objective`'s figure, for Hydra's sweepers to minimise.

    In a multirun a failure is written to results.json and returns infinity, so that the other jobs go on.
    """
    run = Run(Path(folder))
    results = attempt(_train, cfg, run, is_multirun)
    if not is_multirun:
        _print_end(run, results)
    return results[cfg.objective] if results else math.inf


def training_config(cfg: DictConfig) -> tuple[dict, Source | None]:
    """The checked and resolved config of a run, and the source of its images where that had to be opened for it.

    Raises:
        UserError: a mistake that can be found without importing torch.
    """
    check(cfg)
    source = None
    if cfg.data.num_classes is None:  # a folder's classes are known once it is listed
        source = open_source(plain(cfg)["data"])
        cfg.data.num_classes = len(source.class_names)
    config = plain(cfg)
    check_labels(config)
    return config, source


def _train(cfg: DictConfig, run: Run) -> dict:
    config, source = training_config(cfg)
    return once(config, run, partial(_fit, config, run, source))


def _fit(config: dict, run: Run, source: Source | None) -> dict:
    import torch
    from hydra.utils import instantiate

    torch.manual_seed(config["seed"])
    network = instantiate(config["network"])
    if config["choices"]["task"] == "denoiser":
        instantiate(config["metrics"]["extractor"])  # weights that are not there are better missed now than after training
    decoded = decode_source(config["data"], source or open_source(config["data"]))
    fit = instantiate(config["task"])
    run.begin(config)
    return fit(config, run, network, decoded)


def _print_end(run: Run, results: dict) -> None:
    reads = "accuracy" in results  # a classifier's run
    (print_accuracy if reads else print_figures)(results, "Final figures")
    checkpoint = short(run.last_checkpoint)
    print(f"trained in   {results['train_seconds']:.0f} s, {results['train_images_per_second']:.0f} images/s")
    print(f"run folder   {short(run.folder)}")
    if reads:
        print(f"checkpoint   {checkpoint}")
        print(f"by noise     {short(run.accuracy)}")
    else:
        print(f"sample grid  {short(run.final_grid)}")
        print("next         " + command("sample", f"checkpoint={checkpoint} count=36 seed=1"))
        print("             " + command("train", "-m loss=mae,mse schedule=linear,cosine epochs=2"))
    sys.stdout.flush()
