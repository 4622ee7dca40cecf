"""`benchmark.py`: speeds of this project's parts on this machine, as a table and as benchmark.json."""

import datetime
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from diffusion_lab.commands.console import exit_on_user_error, short
from diffusion_lab.commands.ranges import check_ranges
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import write_json
from diffusion_lab.reports.render import wide_console

log = logging.getLogger(__name__)


def benchmark(cfg: DictConfig, folder: str) -> None:
    """Measure the parts of `cfg.benchmark`, print their figures, and write them with the machine to benchmark.json."""
    try:
        exit_on_user_error(_benchmark, cfg, Path(folder))
    finally:
        Run(Path(folder)).remove_if_empty()


def _benchmark(cfg: DictConfig, folder: Path) -> None:
    check_ranges(cfg)
    parts = OmegaConf.to_container(cfg.benchmark, resolve=True)
    unknown = set(cfg.only or ()) - set(parts)
    if unknown:
        raise UserError(f"only={','.join(cfg.only)}: there is no part {', '.join(sorted(unknown))}, but {', '.join(parts)}")
    from hydra.utils import instantiate

    from diffusion_lab.benchmarks.machine import describe
    from diffusion_lab.hardware import keep_freed_memory

    keep_freed_memory()
    machine = {"date": str(datetime.date.today()), **describe()}
    figures = []
    for name in cfg.only or parts:
        log.info("measuring %s", name)
        with tempfile.TemporaryDirectory(prefix="diffusion-lab-") as scratch:
            part = instantiate(parts[name], folder=Path(scratch), rounds=cfg.rounds, seconds=cfg.seconds, _convert_="all")
        figures += part
        _write(folder, machine, figures)  # after each part: a later one may be given up
    wide_console().print(_table(figures, machine))
    print(f"written to   {short(folder)}/benchmark.json, .md")


def _write(folder: Path, machine: dict, figures: list) -> None:
    values = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
    write_json(folder / "benchmark.json", values)
    with (folder / "benchmark.md").open("w") as file:
        Console(file=file, width=250).print(_table(figures, machine, box.MARKDOWN))


def _table(figures: list, machine: dict, form: box.Box = box.HEAVY_HEAD) -> Table:
    said = ", ".join(
        f"{key} {' '.join(value) if isinstance(value, list) else value}" for key, value in machine.items() if value
    )
    table = Table(title=said, title_justify="left", header_style="bold", box=form)
    for column in ("what", "measured", "against", "measured", "ratio", "aim"):
        table.add_column(column, justify="right" if column in ("measured", "ratio") else "left")
    for figure in figures:
        other = "" if figure.against_value is None else f"{_number(figure.against_value)} {figure.unit}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        value = "" if figure.value is None else f"{_number(figure.value)} {figure.unit}"
        table.add_row(figure.what, value, figure.against, other, ratio, figure.aim)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
