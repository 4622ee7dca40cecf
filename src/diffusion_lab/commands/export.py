"""`export.py`: a checkpoint as a file, or a page, that is used elsewhere, with a card that says what it is."""

from pathlib import Path

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check
from diffusion_lab.commands.console import exit_on_user_error, short
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build


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
    from diffusion_lab.export.card import write_card
    from diffusion_lab.export.subject import opened

    write = build(cfg.format, "format", _convert_="all")
    subject = opened(build(cfg.model, "model"))
    run.folder.mkdir(parents=True, exist_ok=True)
    exported = write(subject, run.folder)
    write_card(subject, exported, run.folder)
    size = sum(file.stat().st_size for file in run.folder.rglob("*") if file.is_file()) / 1e6
    return [f"{short(exported.file)}, {size:.1f} MB with its MODEL_CARD.md", *exported.notes, *exported.usage.splitlines()]
