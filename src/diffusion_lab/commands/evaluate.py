"""`evaluate.py`: the figures of a checkpoint, from the checkpoint alone; once for each way of asking."""

import hashlib
import math
import time
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from diffusion_lab.commands.checks import check, check_labels, plain
from diffusion_lab.commands.console import calls_progress, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.job import attempt, once
from diffusion_lab.experiments.runs import Run

# Of checkpoints that are older than guidance.
UNGUIDED = {"_target_": "diffusion_lab.sampling.guidance.ClassifierFreeGuidance", "_partial_": True, "scale": 1.0}


def evaluate_checkpoint(cfg: DictConfig, folder: str, is_multirun: bool) -> float:
    """Score `cfg.checkpoint`, write results.json and a sample grid in `folder`, and return `cfg.objective`'s figure.

    In a multirun a failure is written to results.json and returns infinity, so that the other jobs go on.
    """
    run = Run(Path(folder))
    results = attempt(_evaluate, cfg, run, is_multirun)
    if not is_multirun:
        print_figures(results, str(cfg.checkpoint))
        print(f"run folder   {short(run.folder)}")
        print(f"sample grid  {short(run.final_grid)}")
    return results[cfg.objective] if results else math.inf


def evaluation_config(cfg: DictConfig) -> tuple[dict, dict]:
    """The resolved config of an evaluation, which names the checkpoint by its content, and the checkpoint.

    Raises:
        UserError: a number out of range, or no checkpoint of this project.
    """
    check(cfg)
    from diffusion_lab.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(cfg.checkpoint)
    content = hashlib.sha256(Path(cfg.checkpoint).read_bytes()).hexdigest()
    asked = {"checkpoint": str(cfg.checkpoint), "checkpoint_sha256": content, "precision": cfg.precision}
    return {**with_choices(checkpoint["config"], cfg), **asked}, checkpoint


def _evaluate(cfg: DictConfig, run: Run) -> dict:
    config, checkpoint = evaluation_config(cfg)
    return once(config, run, partial(_score, cfg, config, checkpoint, run))


def _score(cfg: DictConfig, config: dict, checkpoint: dict, run: Run) -> dict:
    from diffusion_lab.checkpoints import build_denoiser, has_averaged_weights
    from diffusion_lab.commands.score import draw_grid, score, scoring_calls
    from diffusion_lab.hardware import choose_precision, keep_freed_memory, pick_device

    denoiser = build_denoiser({**checkpoint, "config": config}, tuple(cfg.trusted))
    decoded = decode_source(config["data"], open_source(config["data"]))
    keep_freed_memory()
    device = pick_device(cfg.accelerator)
    precision = choose_precision(cfg.precision, device)
    run.begin(config)
    began = time.perf_counter()
    with calls_progress(denoiser.to(device), scoring_calls(config, decoded), "Scoring"):
        figures = score(config, decoded, denoiser, precision)
    grid = draw_grid(config, decoded, precision, denoiser, run.final_grid)
    results = {
        **figures,
        "weights": "averaged" if has_averaged_weights(checkpoint) else "last",
        "seed": config["seed"],
        "precision": precision,
        "choices": config["choices"],
        "checkpoint": config["checkpoint"],
        "score_seconds": time.perf_counter() - began,
    }
    _track(config, run, results, grid)
    return results


def _track(config: dict, run: Run, results: dict, grid: Path) -> None:
    """Send figures and grid to the logger that was asked for."""
    from hydra.utils import instantiate

    from diffusion_lab.experiments import tracking

    loggers = [logger for logger in [instantiate(config["logger"])(run, config)] if logger]
    tracking.log_image(loggers, "final_samples", grid, step=0)
    tracking.log_summary(loggers, run, results, step=0)
    tracking.close(loggers)


def with_choices(trained: dict, cfg: DictConfig) -> dict:
    """The config a checkpoint was trained with, with what was chosen on the command line (what is not null) in its place.

    Raises:
        UserError: guidance was chosen, and there are no labels.
    """
    chosen = plain(OmegaConf.merge({"data": {}}, cfg))
    trained = {"guidance": UNGUIDED, **trained}
    words = chosen.get("choices", {})
    chosen["choices"] = {group: word for group, word in words.items() if word != "as_trained"}
    config = _merge(trained, {key: chosen[key] for key in chosen if key in trained})
    check_labels(config)
    return config


def _merge(old, new):
    """`new` where it says something: null keeps the old value, a node with a `_target_` of its own replaces it whole."""
    if new is None:
        return old
    if isinstance(old, dict) and isinstance(new, dict) and "_target_" not in new:
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items() if value is not None}}
    return new
