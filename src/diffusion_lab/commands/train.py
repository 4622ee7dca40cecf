"""`train.py`: one run, from its config to results.json; skipped if finished, resumed if interrupted."""

import logging
import math
import sys
import traceback
from pathlib import Path

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.console import command, exit_on_user_error, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.errors import user_error_in
from diffusion_lab.experiments.runs import Run, config_hash

log = logging.getLogger(__name__)


def train(cfg: DictConfig, folder: str, is_multirun: bool) -> float:
    """Run one experiment in `folder` and return `cfg.objective`'s figure, for Hydra's sweepers to minimise.

    In a multirun a failure is written to results.json and returns infinity, so that the other jobs go on.
    """
    run = Run(Path(folder))
    if is_multirun:
        return _train_or_record_failure(cfg, run)
    try:
        results = exit_on_user_error(_train, cfg, run)
    finally:
        run.remove_if_empty()
    _print_end(run, results)
    return results[cfg.objective]


def _train_or_record_failure(cfg: DictConfig, run: Run) -> float:
    try:
        results = _train(cfg, run)
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            traceback.print_exc()
        reason = str(mistake or f"{type(error).__name__}: {error}")
        log.error("error: %s", reason)
        config = plain(cfg)
        run.begin(config)  # sets aside a finished run of another configuration, which a failure must not overwrite
        run.fail(reason, config)
        return math.inf
    log.info("%s: %s %.4g", run.folder.name, cfg.objective, results[cfg.objective])
    return results[cfg.objective]


def _train(cfg: DictConfig, run: Run) -> dict:
    """Check, then train and score unless that is done; returns results.json's contents."""
    check(cfg)
    source = None
    if cfg.data.num_classes is None:  # a folder's classes are known once it is listed
        source = open_source(plain(cfg)["data"])
        cfg.data.num_classes = len(source.class_names)
    config = plain(cfg)
    if run.finished() and run.results()["config_hash"] == config_hash(config):
        log.info("%s is finished: its results are shown, nothing is run again", run.folder.name)
        return run.results()

    import torch
    from hydra.utils import instantiate

    torch.manual_seed(cfg.seed)
    network = instantiate(config["network"])
    instantiate(config["metrics"]["extractor"])  # weights that are not there are better missed now than after training
    decoded = decode_source(config["data"], source or open_source(config["data"]))

    from diffusion_lab.commands.fit import fit

    run.begin(config)
    results = {**fit(config, run, network, decoded), "config_hash": config_hash(config)}
    run.finish(results)
    return results


def _print_end(run: Run, results: dict) -> None:
    print_figures(results, "Final figures")
    checkpoint = short(run.last_checkpoint)
    print(f"trained in   {results['train_seconds']:.0f} s, {results['train_images_per_second']:.0f} images/s")
    print(f"run folder   {short(run.folder)}")
    print(f"sample grid  {short(run.final_grid)}")
    print("next         " + command("sample", f"checkpoint={checkpoint} count=36 seed=1"))
    print("             " + command("train", "-m loss=mae,mse schedule=linear,cosine epochs=2"))
    sys.stdout.flush()
