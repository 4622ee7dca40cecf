"""A report that is kept up to date while runs go on."""

import re
import shutil

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from diffusion_lab.commands.report import main, watch
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports import live
from diffusion_lab.reports.collect import find_runs
from diffusion_lab.reports.figures import latest_samples
from tests.reports.made import made_config, made_run


def going_on(root, seed: int = 1) -> Run:
    """A run with two of its epochs behind it, and a grid after each."""
    run = Run(root / f"seed-{seed}")
    run.begin(made_config(seed=seed, settings={"epochs": 9}))
    run.metrics_file.write_text("step,val/image_loss,train_seconds,final/kid\n9,0.5,1,\n19,0.25,2,\n20,,,0.1\n")
    run.samples.mkdir()
    for epoch in (1, 2):
        Image.new("RGB", (30, 30), (40 * epoch, 0, 0)).save(run.epoch_grid(epoch))
    return run


def test_the_state_of_each_job_is_told_from_its_files_and_its_lock(tmp_path):
    made_run(tmp_path, 0.1)
    run = going_on(tmp_path)
    assert live.state(run) == "interrupted"
    with run.lock():
        assert live.state(run) == "running"
    assert live.state(run) == "interrupted"
    table = live.live_report(find_runs(tmp_path), "kid", "x").sections[0].table.set_index("run")
    assert list(table.loc["seed-1", ["state", "epochs", "steps", "image_loss"]]) == ["interrupted", "2 of 9", 20, "0.25"]


def test_the_page_renews_itself_while_something_changes_and_stays_at_the_end(tmp_path, monkeypatch, capsys):
    run, pages, looks = going_on(tmp_path), [], []

    def between(seconds):
        page = (tmp_path / "report.html").read_text()
        looks.append(seconds)
        pages.append((page, (tmp_path / "report.html").stat().st_mtime_ns))
        if len(looks) == 2:
            run.fail("out of memory", run.config())

    monkeypatch.setattr("diffusion_lab.commands.report.time.sleep", between)
    watch(str(tmp_path), [], every=7, rounds=4)
    assert looks == [7, 7, 7]
    assert '<meta http-equiv="refresh" content="7">' in pages[0][0]
    assert pages[0][1] == pages[1][1] != pages[2][1]  # written anew where something has changed alone
    assert "1 runs: 1 interrupted" in pages[1][0] and "1 runs: 1 failed" in pages[2][0]
    assert pages[0][0].count("data:image/png;base64,") == 2  # curves, and the latest grid
    assert "http-equiv" not in (tmp_path / "report.html").read_text()  # nobody writes it any more
    assert re.findall("1 [a-z]+\\.", capsys.readouterr().out) == ["1 interrupted.", "1 failed."]


def test_the_newest_grid_of_each_run_is_shown_whatever_its_name(tmp_path):
    """Long names left the pictures no room."""
    runs = [going_on(tmp_path, seed) for seed in range(4)]
    long = tmp_path / "_".join(["network.widths-_16_16_"] * 8)
    runs[0].folder.rename(long)
    figure = latest_samples([Run(long), *runs[1:]])
    FigureCanvasAgg(figure).draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    newest = (np.abs(pixels - (80, 0, 0)) < 3).all(2).mean()
    assert newest > 0.3
    assert not (np.abs(pixels - (40, 0, 0)) < 3).all(2).any()


def test_a_grid_of_more_pixels_than_any_is_left_out(tmp_path):
    run = made_run(tmp_path, 0.2)
    run.samples.mkdir()
    Image.new("1", (20_000, 20_000)).save(run.final_grid)
    assert latest_samples([run]) is None


def test_a_folder_that_vanishes_is_not_made_again(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    run = going_on(folder)
    monkeypatch.setattr("diffusion_lab.commands.report.time.sleep", lambda seconds: shutil.rmtree(folder))
    with pytest.raises(UserError, match="runs is gone"):
        watch(str(folder), [], every=1, rounds=3)
    assert live.state(run) == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_runs_is_waited_for(tmp_path):
    watch(str(tmp_path), [], every=1, rounds=1)
    assert "no runs yet" in (tmp_path / "report.html").read_text()
    with pytest.raises(UserError, match="nowhere is not a folder"):
        watch(str(tmp_path / "nowhere"), [], every=1, rounds=1)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--watch", "0"])
