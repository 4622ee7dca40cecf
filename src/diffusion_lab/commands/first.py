"""A training that comes before another: that of the autoencoder in whose latents the other takes place."""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_lab.commands.composition import compose_config
from diffusion_lab.commands.console import short
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run

log = logging.getLogger(__name__)

SHARED = (
    "name",
    "seed",
    "data",
    "trainer",
    "logger",
    "metrics",
    "trusted",
    "threads",
    "rehearsal",
    "compile",
    "checkpoints",
)


def take_first(
    cfg: DictConfig,
    run: Run,
    config_of: Callable[[DictConfig, Run], dict],
    work: Callable[[DictConfig, Run], dict] | None = None,
) -> None:
    """Make the autoencoder that `cfg.first` trains that of `cfg`, where it names no other: it lies beside `run`, in a folder
    of its own. Where it is not finished, `work` trains it, or goes on; without, nothing happens.

    Args:
        config_of: a config composed, and its run, to the checked and resolved one.
    """
    if not cfg.get("first") or "autoencoder" not in cfg.space or cfg.space.autoencoder:
        return
    with _composed(cfg) as first:
        config = config_of(first, Run(run.folder.parent / "autoencoder"))
        place = Run(run.folder.parent / f"autoencoder-{config_hash(config)[:8]}")
        if not place.finished_as(config):
            if work is None:
                return
            log.info("first        the autoencoder, in %s", short(place.folder))
            work(first, place)
    cfg.space.autoencoder = str(place.last_checkpoint)


@contextlib.contextmanager
def _composed(cfg: DictConfig) -> Iterator[DictConfig]:
    """The config of the training before: `cfg.first`, on the same data; Hydra's own state is as it was afterwards."""
    outer, hydra = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    try:
        first = compose_config("train", [f"data={cfg.choices.data}", *cfg.first])
        for key in SHARED:
            if key in cfg and key in first:
                OmegaConf.update(first, key, copy.deepcopy(cfg[key]), merge=False)
        yield first
    finally:
        HydraConfig.instance().cfg = outer
        GlobalHydra.instance().hydra = hydra
