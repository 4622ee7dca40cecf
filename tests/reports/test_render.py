"""A report as files."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.render import html, latex, print_report, write_report
from diffusion_lab.reports.report import report
from tests.reports.made import grid, made_run


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.cells = [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]
        self.cells += tag == "td"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_files_agree_and_the_page_is_self_contained(tmp_path):
    runs = grid(tmp_path)
    for run in runs:
        run.samples.mkdir()
        Image.new("RGB", (3 * 66 + 2, 3 * 66 + 2), "grey").save(run.final_grid)
        run.metrics_file.write_text("step,val/noise_loss,val/image_loss\n9,0.5,0.6\n19,0.4,0.5\n")
    found = report(runs, "kid", "A <comparison> & more")
    write_report(found, tmp_path)
    again = pd.read_csv(tmp_path / "report.csv", float_precision="round_trip")
    assert np.array_equal(again["kid"], found.cells["kid"])
    page = Page()
    page.feed((tmp_path / "report.html").read_text())
    assert page.open == []
    assert page.cells >= 4 * 10
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "http" not in (tmp_path / "report.html").read_text()
    assert "A &lt;comparison&gt; &amp; more" in (tmp_path / "report.html").read_text()
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (tmp_path / "report.md").read_text()):
        assert Image.open(tmp_path / picture).width > 500
    tables = (tmp_path / "report.tex").read_text()
    assert tables.count(r"\begin{tabular}") == tables.count(r"\end{tabular}") == 2
    assert r"noise\_loss" in tables
    assert not re.search(r"[^\x00-\x7f]", tables)
    assert len(html(found, {})) < len((tmp_path / "report.html").read_text())
    assert latex(found).strip() == tables.strip()


def test_what_matters_least_is_left_out_first_and_a_pipe_is_as_wide_as_it_is_told(tmp_path, capsys, monkeypatch):
    """In the order of the ranking's own figure and interval, FID, held-out errors, what is not told apart, seconds."""
    more = {"mind": 3.0, "improved_precision": 0.5, "improved_recall": 0.5, "density": 1.0, "coverage": 0.5}
    runs = [made_run(tmp_path, kid, loss=loss, results=more) for loss, kid in (("mae", 0.1), ("mse", 0.2))]
    table = next(each for each in report(runs, "kid", "t").sections if each.title == "Ranking by KID").table
    usual = ["rank", "loss", "seeds", "KID", "95 % interval", "FID", "noise_loss", "image_loss"]
    usual += ["not separated from", "train s"]
    assert list(table) == [*usual, "MIND", "precision", "recall", "density", "coverage"]
    monkeypatch.setenv("COLUMNS", "121")
    print_report(report(runs, "kid", "t", with_pictures=False))
    narrow = capsys.readouterr().out
    assert max(len(line) for line in narrow.splitlines() if line.startswith(("│", "┃"))) <= 121
    assert all(word in narrow.partition("left out")[0] for word in ("separated", "noise_loss", "image_loss"))
    assert "density, coverage" in narrow.partition("left out for want of width: ")[2]
    monkeypatch.delenv("COLUMNS")
    print_report(report(runs, "kid", "t", with_pictures=False))
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("several", [False, True])
def test_no_table_is_cut_off_at_its_edge(several, tmp_path):
    """rich makes columns narrower than their words, and then cuts off what sticks out: a column without its last letters."""
    more = {"mind": 3.0, "improved_precision": 0.5, "improved_recall": 0.5, "density": 1.0, "coverage": 0.5, "copies": 0.0}
    more |= {"copies_held_out": 0.0}
    chosen = [("mae", "linear"), ("mse", "linear"), ("mae", "cosine"), ("mse", "cosine")]
    runs = [
        made_run(tmp_path, 0.1 + seed / 100, seed, loss=loss, schedule=schedule, results=more)
        for seed in range(1 + several)
        for loss, schedule in chosen
    ]
    found = report(runs, "kid", "t", with_pictures=False)
    for width in range(40, 260):
        console = Console(file=io.StringIO(), width=width)
        print_report(found, console)
        lines = [line for line in console.file.getvalue().splitlines() if line.startswith(tuple("┏┃┡│└"))]
        assert lines and all(line[-1] in "┓┃┩│┘" and len(line) <= width for line in lines), width


def test_what_files_say_is_text_on_one_line(tmp_path, capsys):
    hostile = "<script>\n# heading\n| a | [b](http:c) `d` \x1b[2J"
    runs = [made_run(tmp_path, 0.2, loss=loss) for loss in ("mae", hostile)]
    for name in ("failed", "<b>\n# name"):
        runs.append(Run(tmp_path / name))
        runs[-1].begin({"seed": 3})
        runs[-1]._write_results({"status": "failed", "error": hostile})
    found = report(runs, "kid", "title\n# more")
    write_report(found, tmp_path)
    print_report(found)
    said, (markdown, tables) = capsys.readouterr().out, [(tmp_path / f"report.{it}").read_text() for it in ("md", "tex")]
    for text in (said, markdown, tables):
        assert "\x1b" not in text
        assert not any(line.startswith(("# heading", "# more", "# name", "\\# heading")) for line in text.splitlines())
    assert r"\<script> # heading \| a \| [b\](http:c) \`d\` \\x1b[2J" in markdown
    assert not re.search(r"(?<!\\)(<|`)", markdown)
    assert r"- \<b> # name: failed" in markdown
