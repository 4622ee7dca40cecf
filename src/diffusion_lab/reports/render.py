"""A report on the terminal and as files: Markdown, CSV, LaTeX, and HTML in one file with its pictures inside."""

import base64
import io
import os
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffusion_lab.files import write_text
from diffusion_lab.reports.report import Report, Section
from diffusion_lab.wording import one_line


def print_report(report: Report, console: Console | None = None) -> None:
    """Sections without their pictures, on the terminal."""
    console = console or wide_console()
    for section in report.sections:
        if not (section.sentences or section.links) and section.table is None:
            continue
        console.print(f"\n[bold]{escape(one_line(section.title))}")
        for sentence in section.sentences:
            console.print(escape(one_line(sentence)), soft_wrap=True, highlight=False)
        for name, file in section.links.items():
            console.print(escape(one_line(f"{name}: {file}")), soft_wrap=True, highlight=False)
        if section.table is not None and not section.brief:
            console.print(_rich_table(section.table, console.width))


def wide_console() -> Console:
    """A console wide enough for our tables where it is a file or a pipe, which have no width of their own but COLUMNS."""
    console = Console()
    if not (console.is_terminal or os.environ.get("COLUMNS", "").isdigit()):
        console.width = max(console.width, 170)
    return console


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.md, .csv, .tex, .html, and the pictures as PNG, into `folder`; returns the reports' paths."""
    pictures = folder / "report_pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    drawn = {section.title: _png(section.picture) for section in report.sections if section.picture is not None}
    for title, png in drawn.items():
        (pictures / f"{_slug(title)}.png").write_bytes(png)
    written = {"md": markdown(report, folder), "tex": latex(report), "html": html(report, drawn, folder)}
    for suffix, text in written.items():
        write_text(folder / f"report.{suffix}", text)
    report.cells.to_csv(folder / "report.csv", index=False)
    return [folder / f"report.{suffix}" for suffix in ("md", "csv", "tex", "html")]


def write_page(report: Report, folder: Path, refresh: int | None) -> Path:
    """Write report.html alone into `folder`: a page that looks for a newer one every `refresh` seconds."""
    drawn = {section.title: _png(section.picture) for section in report.sections if section.picture is not None}
    write_text(folder / "report.html", html(report, drawn, folder, refresh))
    return folder / "report.html"


def markdown(report: Report, folder: Path = Path()) -> str:
    """The report as it is to lie in `folder`."""
    parts = [f"# {_plain(report.title)}"]
    for section in report.sections:
        parts += [f"## {_plain(section.title)}", *(f"- {_plain(sentence)}" for sentence in section.sentences)]
        parts += [f"- [{_bare(name)}]({_link(file, folder)})" for name, file in section.links.items()]
        if section.table is not None:
            parts += ["", _pipes(section.table), ""]
        if section.picture is not None:
            parts.append(f"![{_bare(section.title)}](report_pictures/{_slug(section.title)}.png)")
    return "\n".join(parts) + "\n"


def latex(report: Report) -> str:
    """The tables alone, for a paper (booktabs)."""
    tables = [section for section in report.sections if section.table is not None]
    return "\n\n".join(_latex_table(section) for section in tables) + "\n"


def html(report: Report, drawn: dict[str, bytes], folder: Path = Path(), refresh: int | None = None) -> str:
    """One self-contained page to lie in `folder`: its style and pictures inside, no links to other places."""
    template = files("diffusion_lab.reports").joinpath("report.html.jinja").read_text()
    pictures = {title: base64.b64encode(png).decode() for title, png in drawn.items()}
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(report=report, pictures=pictures, slug=_slug, link=lambda file: _link(file, folder), refresh=refresh)
    )


def _bare(name: str) -> str:
    """The name of a link, that Markdown takes for nothing else."""
    return re.sub(r"([\\`<|\[\]])", r"\\\1", one_line(name))


def _plain(text: object) -> str:
    """A text that Markdown takes for no heading, tag, code, cell's end or link: it may come out of any file."""
    return re.sub(r"(^#|[\\`<|]|\](?=[(:\[]))", r"\\\1", one_line(text))


def _link(file: Path, folder: Path) -> str:
    """The way from a folder to a file, as an address."""
    return quote(os.path.relpath(file, folder).replace(os.sep, "/"))


def _rich_table(table: pd.DataFrame, width: int) -> Table:
    """As many columns, from the left, as fit; the files have them all. Headings are broken between words where there is no
    room for them, and nothing else is: rich would cut off what is too wide."""
    wide = [3 + max(len(str(word)) for word in (name, *table[name])) for name in table]
    narrow = [3 + max(len(str(word)) for word in (*str(name).split(), *table[name])) for name in table]
    fitting = [name for i, name in enumerate(table) if sum(narrow[: i + 1]) < width]
    widths = wide if sum(wide[: len(fitting)]) < width else narrow
    shown = Table(header_style="bold", caption_justify="left")
    for name, room in zip(fitting, widths, strict=False):
        justify = "right" if _is_figure(table[name]) else "left"
        shown.add_column(escape(one_line(name)), justify=justify, width=room - 3)
    for row in table[fitting].itertuples(index=False):
        shown.add_row(*(escape(one_line(value)) for value in row))
    if len(fitting) < len(widths):
        left_out = ", ".join(one_line(name) for name in table if name not in fitting)
        shown.caption = escape(f"left out for want of width: {left_out}")
    return shown


def _is_figure(column: pd.Series) -> bool:
    return all(re.match(r"^[−–+-]?[\d.]*( ±|$)", str(value)) for value in column)


def _pipes(table: pd.DataFrame) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(_plain, row)) + " |" for row in rows)


def _latex_table(section: Section) -> str:
    table = section.table.map(lambda cell: one_line(cell) if isinstance(cell, str) else cell)
    styled = table.style.hide(axis="index").format(escape="latex").format_index(one_line, axis=1, escape="latex")
    body = styled.to_latex(hrules=True)
    for symbol, command in {"±": r"$\pm$", "→": r"$\to$", "×": r"$\times$", "–": "--"}.items():
        body = body.replace(symbol, command)
    return f"% {one_line(section.title)}\n{body}".rstrip()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
