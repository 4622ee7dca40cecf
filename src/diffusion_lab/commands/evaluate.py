"""`evaluate.py`: the figures of a model, from its file alone; once for each way of asking."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check
from diffusion_lab.commands.choices import with_choices
from diffusion_lab.commands.console import calls_progress, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.job import alone, attempt, to_minimise
from diffusion_lab.experiments.runs import Run, sha256_of
from diffusion_lab.parts import build

if TYPE_CHECKING:
    from diffusion_lab.checkpoints import Checkpoint


def evaluate_checkpoint(cfg: DictConfig, folder: str, is_multirun: bool) -> float:
    """Score `cfg.model`, write results.json and a sample grid in `folder`, and return `cfg.objective`'s figure.

    In a multirun a failure is written to results.json and returns infinity, so that the other jobs go on.
    """
    run = Run(Path(folder))
    results = attempt(run_once, lambda cfg: evaluation_config(cfg)[0], cfg, run, is_multirun)
    if not is_multirun:
        print_figures(results, str(cfg.checkpoint))
        print(f"run folder   {short(run.folder)}")
        print(f"sample grid  {short(run.final_grid)}")
    return to_minimise(results, cfg.objective)


def run_once(cfg: DictConfig, run: Run) -> dict:
    """The results of `cfg` in `run`'s folder: those that are there, or else made now."""
    config, opened = evaluation_config(cfg)
    with alone(run, config) as work:
        return work.results or work.finish(_score(cfg, config, opened, run))


def evaluation_config(cfg: DictConfig) -> tuple[dict, Checkpoint]:
    """The resolved config of an evaluation, which names the checkpoint by its content, and the checkpoint.

    Raises:
        UserError: a number out of range, or no checkpoint of this project.
    """
    check(cfg)
    opened = build(cfg.model, "model")
    asked = {"checkpoint": str(cfg.checkpoint), "checkpoint_sha256": sha256_of(opened.path), "precision": cfg.precision}
    config = {**with_choices(opened.config, cfg), **asked}
    contents = {**config.get("contents", {}), "data": open_source(config["data"]).fingerprint[:16]}
    return {**config, "contents": contents}, opened


def _score(cfg: DictConfig, config: dict, opened: Checkpoint, run: Run) -> dict:
    from diffusion_lab.denoiser import Denoiser
    from diffusion_lab.hardware import keep_freed_memory, machine
    from diffusion_lab.metrics.scoring import check_counts, measure
    from diffusion_lab.sampling.drawing import drawing
    from diffusion_lab.tasks.denoiser import draw_grid, metrics, scoring, scoring_calls

    asked = metrics(config)
    denoiser = opened.model(Denoiser)
    decoded = decode_source(config["data"], open_source(config["data"]))
    check_counts(asked, config["metrics"]["samples"], len(decoded.held_out))
    keep_freed_memory()
    ready = drawing(config, denoiser, machine(cfg.accelerator, cfg.precision), cfg.trusted)
    run.begin(config)
    began = time.perf_counter()
    with calls_progress(denoiser, scoring_calls(config, decoded), "Scoring"):
        figures = measure(scoring(config, ready, decoded, cfg.trusted), asked)
    grid = draw_grid(config, ready, run.final_grid)
    results = {
        **figures,
        "weights": "averaged" if opened.averaged else "last",
        "seed": config["seed"],
        "precision": ready.machine.precision,
        "choices": config["choices"],
        "checkpoint": config["checkpoint"],
        "score_seconds": time.perf_counter() - began,
    }
    _track(config, run, results, grid)
    return results


def _track(config: dict, run: Run, results: dict, grid: Path) -> None:
    """Send figures and grid to the logger that was asked for."""
    from diffusion_lab.experiments import tracking

    loggers = [logger for logger in [build(config["logger"], "logger")(run, config)] if logger]
    tracking.log_image(loggers, "final_samples", grid, step=0)
    tracking.log_summary(loggers, run, results, step=0)
    tracking.close(loggers)
