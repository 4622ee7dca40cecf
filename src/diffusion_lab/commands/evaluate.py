"""`evaluate.py`: the figures of a checkpoint, from the checkpoint alone."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.console import exit_on_user_error, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.experiments.runs import Run

log = logging.getLogger(__name__)


def evaluate_checkpoint(cfg: DictConfig, folder: str) -> float:
    """Score `cfg.checkpoint`, write evaluation.json in `folder`, and return the KID."""
    run = Run(Path(folder))
    try:
        results = exit_on_user_error(_evaluate, cfg)
        file = run.folder / "evaluation.json"
        run.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=2) + "\n")
    finally:
        run.remove_if_empty()
    print_figures(results, str(cfg.checkpoint))
    print(f"written to {short(file)}")
    return results["kid"]


def _evaluate(cfg: DictConfig) -> dict:
    check(cfg)
    from diffusion_lab.checkpoints import build_denoiser, has_averaged_weights, load_checkpoint

    checkpoint = load_checkpoint(cfg.checkpoint)
    config = with_choices(checkpoint["config"], cfg)
    denoiser = build_denoiser({**checkpoint, "config": config}, tuple(cfg.trusted))
    decoded = decode_source(config["data"], open_source(config["data"]))

    from diffusion_lab.commands.score import score
    from diffusion_lab.hardware import choose_precision, keep_freed_memory, pick_device

    keep_freed_memory()
    device = pick_device(cfg.accelerator)
    precision = choose_precision(cfg.precision, device)
    figures = score(config, decoded, denoiser.to(device), precision)
    weights = "averaged" if has_averaged_weights(checkpoint) else "last"
    return {**figures, "weights": weights, "seed": config["seed"], "precision": precision, "checkpoint": str(cfg.checkpoint)}


def with_choices(trained: dict, cfg: DictConfig) -> dict:
    """The config a checkpoint was trained with, with what was chosen on the command line (what is not null) in its place."""
    chosen = plain(OmegaConf.merge({"data": {}}, cfg))
    return _merge(trained, {key: chosen[key] for key in chosen if key in trained})


def _merge(old, new):
    """`new` where it says something: null keeps the old value, a node with a `_target_` of its own replaces it whole."""
    if new is None:
        return old
    if isinstance(old, dict) and isinstance(new, dict) and "_target_" not in new:
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items() if value is not None}}
    return new
