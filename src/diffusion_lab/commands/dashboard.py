"""`dashboard.py`: a workspace and a report in the user's W&B project, or their specification where there is no account."""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from diffusion_lab.commands.console import exit_on_user_error, short
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import write_json


def make_dashboard(cfg: DictConfig, folder: str) -> None:
    """Save both and print their addresses; without an account write dashboard.json in `folder` and say how to log in."""
    run = Run(Path(folder))
    try:
        exit_on_user_error(_make_dashboard, cfg, run)
    finally:
        run.remove_if_empty()


def _make_dashboard(cfg: DictConfig, run: Run) -> None:
    entity, project, name = (None if value is None else str(value) for value in (cfg.entity, cfg.project, cfg.name))
    if not project:
        raise UserError("project is not set: it names the W&B project, as logger.project did in training")

    os.environ.setdefault("WANDB_SHOW_INFO", "false")  # the addresses are printed here
    import wandb

    from diffusion_lab.experiments.dashboard import save, specification

    specified = specification(entity or "", project, name)
    try:
        addresses = save(entity, project, name) if wandb.login(prompt=False) else None
    except Exception as error:  # W&B's own have no class in common
        advice = "log in again (wandb login --relogin), or set WANDB_MODE=offline to have the specification alone"
        raise UserError(f"W&B does not answer, or refuses: {str(error).rstrip('.')}; {advice}") from error
    if addresses is None:
        _write(specified, run)
    else:
        print("\n".join(f"{kind:10} {address}" for kind, address in addresses.items()))


def _write(specified: dict, run: Run) -> None:
    file = run.folder / "dashboard.json"
    write_json(file, specified)
    wandb_command = short(Path(sys.executable).with_name("wandb"))
    print(f"nothing was sent to W&B (no login, or WANDB_MODE=offline); the specification is in {short(file)}")
    print(f"to send it, type {wandb_command} login, or set WANDB_API_KEY, then this again; make sync uploads offline runs")
