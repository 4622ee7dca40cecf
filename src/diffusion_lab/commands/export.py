"""`export.py`: a checkpoint as a file, or a page, that is used elsewhere, with a card that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.console import exit_on_user_error, short
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import filling
from diffusion_lab.parts import build

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

    from diffusion_lab.export.subject import Subject


def export_checkpoint(cfg: DictConfig, folder: str) -> None:
    """Write `cfg.checkpoint` into `folder` as `cfg.format` says, and MODEL_CARD.md beside it."""
    run = Run(Path(folder))
    try:
        said = exit_on_user_error(_export, cfg, run)
    finally:
        run.remove_if_empty()
    print("\n".join(said))
    if cfg.open:
        from diffusion_lab.export.serving import serve

        serve(run.folder)


def _export(cfg: DictConfig, run: Run) -> list[str]:
    check(cfg)
    if cfg.open and not cfg.format._target_.endswith(".web"):
        raise UserError("open=true opens a page: take format=web")
    from diffusion_lab.commands.rounding import cost_of_rounding
    from diffusion_lab.export.card import write_card
    from diffusion_lab.export.subject import opened

    write = build(cfg.format, "format", _convert_="all")
    subject = opened(build(cfg.model, "model"))
    with filling(run.folder, "MODEL_CARD.md") as scratch:
        exported = write(subject, scratch)
        if exported.rounded and cfg.samples != 0:
            exported.notes.append(cost_of_rounding(subject, exported.rounded, cfg.samples))
        write_card(subject, exported, scratch)
        size = sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()) / 1e6
        _track(cfg, subject, run, scratch)
    file = run.folder / exported.file.relative_to(scratch)
    return [f"{short(file)}, {size:.1f} MB with its MODEL_CARD.md", *exported.notes, *exported.usage.splitlines()]


def _track(cfg: DictConfig, subject: Subject, run: Run, written: Path) -> None:
    """Send what was written to the logger that was asked for.

    What a logger keeps lies in a folder beside, for a page's folder is handed out as it is.
    """
    from diffusion_lab.experiments import tracking

    asked, word = plain(cfg)["logger"], cfg.format._target_.rsplit(".", 1)[-1]
    if asked["_target_"].endswith(".csv_only"):
        return
    if not asked["_target_"].endswith(".wandb"):
        raise UserError("only W&B keeps files: take logger=wandb")
    beside = Run(run.folder.parent / "tracked" / run.folder.name)
    config = {**subject.config, "format": plain(cfg)["format"], "checkpoint": str(subject.checkpoint.path)}
    logger: WandbLogger = build(asked, "logger")(beside, config)
    try:
        tracking.log_files(
            logger, f"{config['name']}-{word}", written, {"choices": config.get("choices"), **subject.results}
        )
    finally:
        tracking.close([logger])
