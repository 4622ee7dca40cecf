"""`evaluate.py`: the figures of a model, from its file alone; once for each way of asking."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.choices import with_choices
from diffusion_lab.commands.console import calls_progress, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.job import alone, attempt, to_minimise
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import content_of, sha256_of
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build

if TYPE_CHECKING:
    from diffusion_lab.checkpoints import Checkpoint
    from diffusion_lab.data.cache import Decoded
    from diffusion_lab.pretrained.pipeline import Pipeline


def evaluate_checkpoint(cfg: DictConfig, folder: str, is_multirun: bool) -> float:
    """Score `cfg.model`, write results.json and a sample grid in `folder`, and return `cfg.objective`'s figure.

    In a multirun a failure is written to results.json and returns infinity, so that the other jobs go on.
    """
    run = Run(Path(folder))
    results = attempt(run_once, lambda cfg: evaluation_config(cfg)[0], cfg, run, is_multirun)
    if not is_multirun:
        print_figures(results, str(cfg.checkpoint or cfg.model.path))
        for alarm in results.get("alarms", []):
            print(f"{'alarm':12} {alarm}")
        print(f"run folder   {short(run.folder)}")
        print(f"sample grid  {short(run.final_grid)}")
    return to_minimise(results, cfg.objective, is_multirun)


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
    from diffusion_lab.pretrained.pipeline import Pipeline

    opened = build(cfg.model, "model")
    cfg.objective = cfg.objective or opened.config.get("objective", "kid")
    asked = {"checkpoint": str(cfg.checkpoint or cfg.model.path), "precision": cfg.precision}
    if cfg.model.get("ema_length"):
        asked["ema_length"] = cfg.model.ema_length
    if isinstance(opened, Pipeline):
        config = {**_pretrained(opened, cfg), **asked, "checkpoint_sha256": content_of(opened.folder.path)}
    else:
        config = {**with_choices(opened.config, cfg), **asked, "checkpoint_sha256": sha256_of(opened.path)}
    contents = {**config.get("contents", {}), "data": open_source(config["data"]).fingerprint[:16]}
    return {**config, "contents": contents}, opened


def _pretrained(opened: Pipeline, cfg: DictConfig) -> dict:
    """The config of the evaluation of a pretrained pipeline, which brings neither data nor metrics."""
    if cfg.data.get("source") is None or cfg.metrics.get("protocol") is None:
        raise UserError(
            "a pretrained model brings no data to be compared with: give data=folder data.root=DIR, and metrics=standard"
        )
    opened.check_draws()
    if opened.second:
        raise UserError("evaluate.py scores one stage: give model.path=STAGE_I")
    given = plain(cfg)
    chosen = {key: given[key] for key in ("metrics", "logger", "name", "objective", "choices")}
    data = {**given["data"], "image_size": opened.size, "channels": 3}
    return {**with_choices(opened.config, cfg), **chosen, "data": data, "grid": {"count": 4}, "batch_size": cfg.batch_size}


def _in_turn(decoded: Decoded, opened: Checkpoint | Pipeline) -> Decoded:
    """The images of the data set; for a pretrained model that reads text with its prompts in turn, unless there is one for
    each class."""
    rows = len(opened.conditions) if hasattr(opened, "conditions") else None
    if rows is None or rows == len(decoded.class_names):
        return decoded
    import numpy as np

    labels = np.full(len(decoded.labels), -1)
    if opened.prompts:
        labels[decoded.held_out] = np.arange(len(decoded.held_out)) % rows
    return replace(decoded, labels=labels)


def _score(cfg: DictConfig, config: dict, opened: Checkpoint, run: Run) -> dict:
    from diffusion_lab.denoiser import Denoiser
    from diffusion_lab.hardware import keep_freed_memory, machine
    from diffusion_lab.metrics import copies, spread
    from diffusion_lab.metrics.scoring import check_counts, check_objective, measure
    from diffusion_lab.sampling.drawing import drawing
    from diffusion_lab.tasks.denoiser import draw_grid, metrics, scoring, scoring_calls

    asked = metrics(config)
    check_objective(asked, cfg.objective)
    denoiser = opened.model(Denoiser)
    decoded = _in_turn(decode_source(config["data"], open_source(config["data"])), opened)
    check_counts(asked, config["metrics"]["samples"], len(decoded.held_out))
    keep_freed_memory()
    ready = drawing(config, denoiser, machine(cfg.accelerator, cfg.precision), cfg.trusted)
    run.begin(config)
    began = time.perf_counter()
    with calls_progress([denoiser], scoring_calls(config, decoded), "Scoring"):
        figures = measure(scoring(config, ready, decoded, cfg.trusted), asked)
    grid = draw_grid(config, ready, run.final_grid)
    results = {
        **figures,
        "alarms": [*copies.alarms(figures), *spread.alarms(figures)],
        "weights": "averaged" if getattr(opened, "averaged", False) else "last",
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
