"""`judge.py ladder=RUN`: whether each metric finds the later checkpoints of a training better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig, OmegaConf

from diffusion_lab.commands.choices import with_choices
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.names import data_name
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from diffusion_lab.metrics.scoring import Metric


def check_ladder(cfg: DictConfig) -> None:
    """Raise UserError for a ladder that is none, or beside what it has no use for."""
    files = list(cfg.ladder) if isinstance(cfg.ladder, ListConfig) else [cfg.ladder]
    if not (files and all(isinstance(file, str) for file in files)):
        raise UserError(f"ladder={cfg.ladder} must be a run's folder, or a list of checkpoint files")
    if cfg.only or cfg.beside:
        raise UserError("only= and beside= are for images that are made worse: leave them out, or ladder=")


def climb_ladder(cfg: DictConfig, metrics: dict[str, Metric]) -> tuple[pd.DataFrame, pd.DataFrame, list[str], Figure]:
    """Verdicts, values, sentences and a figure of the checkpoints of `cfg.ladder`.

    Raises:
        UserError: they are no ladder.
    """
    check_ladder(cfg)
    import pandas as pd

    from diffusion_lab.checkpoints import load_checkpoint
    from diffusion_lab.figures import FIGURES
    from diffusion_lab.hardware import machine
    from diffusion_lab.judging.figure import ladder_figure
    from diffusion_lab.judging.ladder import NAME, as_worsening, climb, rungs, sentences_beside
    from diffusion_lab.judging.trial import Sizes
    from diffusion_lab.judging.verdicts import sentences, verdicts
    from diffusion_lab.metrics.scoring import figures_of

    ladder, asked = rungs(_files(cfg.ladder), cfg.trusted), _asked(cfg)
    config = asked(load_checkpoint(next(iter(ladder.values())), cfg.trusted).config)
    identity = build(config["metrics"]["extractor"], "metrics.extractor").identity
    decoded = decode_source(config["data"], open_source(config["data"]))
    sizes = Sizes(min(cfg.real, len(decoded.held_out)), cfg.pool, cfg.pool, min(cfg.images, cfg.pool // 2), cfg.sets)
    values, beside = climb(ladder, asked, decoded, metrics, sizes, machine(cfg.accelerator, "auto"), cfg.trusted)
    known = figures_of(metrics)
    found = verdicts(values, known, sizes.images)
    found.insert(0, "data", f"{data_name(config['data'])} {config['data']['image_size']} px")
    found.insert(1, "extractor", identity)
    said = sentences(found, known, identity, {NAME: as_worsening(ladder)})
    values = pd.concat([values, beside.assign(worsening=NAME)])
    known = {**FIGURES, **known}
    return found, values, [*said, *sentences_beside(beside, known)], ladder_figure(values, found, known)


def _files(ladder: str | list[str]) -> list[Path]:
    if not isinstance(ladder, str):
        return [Path(file).expanduser() for file in ladder]
    run = Run(Path(ladder).expanduser())
    return [*sorted(run.checkpoints.glob("epoch_*.ckpt")), run.last_checkpoint]


def _asked(cfg: DictConfig) -> Callable[[dict], dict]:
    """A checkpoint's config to the one that it draws by: its own, but for what was typed, and where its images are now."""
    typed = OmegaConf.masked_copy(cfg, ["sampler", "guidance", "metrics"])
    OmegaConf.set_struct(typed, False)
    typed.data = {key: cfg.data.get(key) for key in ("root", "path", "cache_dir")}
    return lambda trained: with_choices(trained, typed)
