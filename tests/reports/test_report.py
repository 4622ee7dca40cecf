"""What a report says of runs with known figures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import KID
from diffusion_lab.reports.collect import collect, find_runs
from diffusion_lab.reports.figures import against
from diffusion_lab.reports.ranking import rankings
from diffusion_lab.reports.render import html, markdown, write_report
from diffusion_lab.reports.report import report
from tests.reports.made import grid, made_config, made_run, sections


def sentences_of(runs: list[Run]) -> dict[str, list[str]]:
    return {section.title: section.sentences for section in report(runs, "kid", "t", with_pictures=False).sections}


def cells(root, first, second, **results) -> list[Run]:
    """Runs of two schedules, a seed for each KID, with other figures."""
    return [
        made_run(root, kid, seed=seed, schedule=schedule, results={key: of(kid) for key, of in results.items()})
        for schedule, kids in (("cosine", first), ("linear", second))
        for seed, kid in enumerate(kids)
    ]


def test_it_says_how_many_seeds_would_separate_two_cells(tmp_path):
    [_, separation, power, spread, *_] = sentences_of(
        cells(tmp_path, (0.10, 0.12, 0.14), (0.13, 0.15, 0.17), kid_image_error=lambda kid: 0.004)
    )["Ranking by KID"]
    assert "do not separate it" in separation
    wanted = next(
        n for n in range(2, 99) if 0.03 - 2 * stats.t.ppf(0.975, n - 1) * 0.02 / n**0.5 >= 0.8416 * 0.02 * (2 / n) ** 0.5
    )
    assert power.startswith(
        f"{wanted - 3} more seeds of each would separate them in 4 of 5 cases, if cosine and linear differ as"
    )
    assert "seed to seed by 0.0200" in spread
    assert "of the same model would change it by 0.0040: training dominates" in spread


def test_images_may_dominate_and_cells_be_equal(tmp_path):
    said = sentences_of(cells(tmp_path, (0.10, 0.12), (0.1001, 0.1201), kid_image_error=lambda kid: 0.013))["Ranking by KID"]
    assert any(each.startswith("Even if cosine and linear differ as much as it seems, 100 seeds") for each in said)
    assert any("images dominate, so a larger metrics.samples would help" in each for each in said)


def test_it_says_whether_other_figures_agree(tmp_path):
    first, second = (0.10, 0.12, 0.14), (0.3, 0.31, 0.33)
    others = {"fid": lambda kid: 100 * kid, "noise_loss": lambda kid: 1 - kid, "coverage": lambda kid: 1 - kid}
    runs = cells(tmp_path, first, second, **others)
    [said] = sentences_of(runs)["Do the judges agree?"]
    assert said.startswith("Beside KID's, the order of 6 runs (Spearman's rho) is much the same by ")
    assert {"FID (1.00)", "coverage (1.00)"} <= set(
        re.findall(r"\w+ \([\d.-]+\)", said.partition("; ")[0])
    )  # more is better
    assert "; another altogether by noise_loss (-1.00). Where judges differ, look at the samples" in said


def test_what_runs_warned_of_is_in_the_report(tmp_path):
    runs = [made_run(tmp_path, 0.1, results={"alarms": ["copies: 30 of 1000"]}), made_run(tmp_path, 0.2, loss="mse")]
    sections = {section.title: section.sentences for section in report(runs, "kid", "t", with_pictures=False).sections}
    assert sections["Alarms"] == [f"{runs[0].folder.name}: copies: 30 of 1000."]
    assert "Alarms" not in {section.title for section in report(runs[1:], "kid", "t", with_pictures=False).sections}


def test_cells_are_ranked_with_their_seeds_put_together(tmp_path):
    runs = grid(tmp_path)
    by_title, found = sections(runs)
    table = by_title["Ranking by KID"].table
    assert list(table["rank"]) == [1, 2, 3, 4]
    assert list(table["schedule"]) == ["cosine", "cosine", "linear", "linear"]
    assert set(table["seeds"]) == {3}
    best = found.cells.iloc[0]
    kids = [run.results()["kid"] for run in runs if _words(run) == (best["schedule"], best["loss"])]
    low, high = stats.t.interval(0.95, 2, np.mean(kids), stats.sem(kids))
    assert (best["kid"], best["kid_std"]) == pytest.approx((np.mean(kids), np.std(kids, ddof=1)))
    assert (best["kid_low"], best["kid_high"]) == pytest.approx((low, high))


def _words(run: Run):
    choices = run.results()["choices"]
    return choices["schedule"], choices["loss"]


def test_a_run_whose_page_was_exported_is_linked(tmp_path):
    runs = [made_run(tmp_path, 0.2, loss=loss) for loss in ("mae", "mse")]
    assert "Pages in the browser" not in sections(runs)[0]
    runs[1].page.parent.mkdir()
    runs[1].page.touch()
    found = sections(runs)[1]
    written = tmp_path / "elsewhere"
    assert f"[{runs[1].folder.name}](../{runs[1].folder.name}/web/index.html)" in markdown(found, written)
    page = html(found, {}, written)
    links = re.findall(r'<a href="([^"#]+)">([^<]+)', page)
    assert links == [(f"../{runs[1].folder.name}/web/index.html", runs[1].folder.name)]


def test_overlapping_cells_are_said_to_be_unseparated(tmp_path):
    by_title, _ = sections(grid(tmp_path))
    ranking = by_title["Ranking by KID"]
    assert re.search(r"The data do not separate it from cosine / m[as]e\.", ranking.sentences[1])
    assert list(ranking.table["not separated from"]) == ["2", "1", "4", "3"]


def test_effects_are_sentences_one_can_quote(tmp_path):
    by_title, _ = sections(grid(tmp_path))
    said = by_title["Effect of each choice"].sentences
    match = (
        r"cosine beats linear on KID by (0\.\d+) \[(0\.\d+), (0\.\d+)\] \(2 degrees of freedom\) over 6 pairs \(schedule\)\."
    )
    match = re.match(match, said[0])
    assert match, said
    by, low, high = map(float, match.groups())
    assert low < 0.06 < high
    assert low < by < high
    assert re.match("(mae and mse|mse and mae) are not separated on KID: ", said[1])


def test_an_effect_that_turns_round_beside_another_choice_says_so(tmp_path):
    kids = {("mae", "cosine"): 0.33, ("mae", "linear"): 0.30, ("mse", "cosine"): 0.2, ("mse", "linear"): 0.33}
    runs = [
        made_run(tmp_path, kid + seed / 1000, seed, loss=loss, schedule=schedule)
        for (loss, schedule), kid in kids.items()
        for seed in (0, 1)
    ]
    schedule, loss, *_ = sections(runs)[0]["Effect of each choice"].sentences
    assert schedule.startswith("cosine beats linear on KID by 0.0500 [0.0500, 0.0500]")
    assert schedule.endswith("over 4 pairs (schedule), on average over loss; with mae it is the other way round.")
    assert loss.startswith("mse beats mae")
    assert loss.endswith("; with linear it is the other way round.")
    for run in runs:
        made_run(tmp_path, run.results()["kid"] - 0.06 * (_words(run) == ("cosine", "mae")), run.results()["seed"],
                 loss=_words(run)[1], schedule=_words(run)[0])  # fmt: skip
    assert "the other way round" not in sections(runs)[0]["Effect of each choice"].sentences[0]


def test_a_stranger_among_the_runs_changes_nothing_for_the_others(tmp_path):
    """It declares that more KID is better, and has words that are formulas to matplotlib."""
    strange = {"kid": {"label": "KID", "less_is_better": False, "digits": 4}}
    runs = [made_run(tmp_path, kid, loss=loss) for kid, loss in ((0.9, "mae"), (0.4, "mse"))]
    runs.append(made_run(tmp_path, 0.6, loss="$\\frac{$", results={"figures": strange}))
    found = report(runs, "kid", "test")
    assert "Lowest KID: mse, 0.4" in str([section.sentences for section in found.sections])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: &a {b: *a}"),
        (
            "config.yaml",
            "".join(
                f"x{i}: &x{i} {{a: *x{i - 1}, b: *x{i - 1}, c: *x{i - 1}}}\n" if i else "x0: &x0 {a: 1}\n" for i in range(40)
            ),
        ),
        ("results.json", '{"status": "finished", "kid": 1' + "0" * 400 + "}"),
        ("results.json", '{"status": "finished", "kid": -1e308}'),
        ("results.json", '{"status": "finished", "kid": 1, "train_seconds": 1e308}'),
        ("results.json", '{"status": "finished", "kid": 1, "steps": 1' + "0" * 400 + "}"),
        ("results.json", '{"status": "finished", "kid": 1, "samples": {}}'),
        ("results.json", '{"status": "\\ud800", "kid": 1}'),
        ("results.json", '{"status": "finished", "kid": 1, "mine": 2, "figures": {"mine": {"digits": "x"}}}'),
        ("results.json", '{"status": "finished", "kid": 1, "mine": 2, "figures": {"mine": {"depends_on": [[]]}}}'),
        ("results.json", '{"status": "finished", "kid": 1, "config_hash": {}}'),
    ],
)
def test_a_strangers_odd_file_is_damage_and_no_more(tmp_path, name, content):
    runs = [made_run(tmp_path, 0.9, loss="mae"), made_run(tmp_path, 0.4, loss="mse")]
    odd = made_run(tmp_path, 0.1, loss="huber")
    (odd.folder / name).write_text(content)
    found = report([*runs, odd], "kid", "test", with_pictures=False)
    assert f"{odd.folder / name} is damaged" in str([section.sentences for section in found.sections])
    assert len(found.cells) == 2


def test_a_seed_counts_once_however_often_and_wherever_it_was_run(tmp_path):
    """3 and 3.0 are one setting, and images at another place are the same images."""
    runs = [made_run(tmp_path, 0.2, 0, settings={"optimizer.lr": lr}) for lr in (1, 1.0, 2)]
    assert runs[0].results()["config_hash"] == runs[1].results()["config_hash"]
    cells = report(runs, "kid", "test", with_pictures=False).cells
    assert sorted(cells["kid_seeds"]) == [1, 1]
    runs = [
        made_run(tmp_path / place, kid, 0, settings={"data.root": place}, loss=loss)
        for place, noise in (("here", 0.0), ("there", 0.0001))
        for loss, kid in (("mae", 0.2 + noise), ("mse", 0.21 + noise))
    ]
    cells = report(runs, "kid", "test", with_pictures=False).cells
    assert list(cells["kid_seeds"]) == [1, 1]
    assert cells["kid_low"].isna().all()


def test_errors_in_other_units_are_not_compared_and_kid_is(tmp_path):
    runs = [
        made_run(tmp_path, 0.2 + seed / 100, seed, space=space, results={"units": space, "image_loss": loss})
        for space, loss in (("symmetric", 0.1), ("standardised", 0.3))
        for seed in (0, 1)
    ]
    by_kid = report(runs, "kid", "test", with_pictures=False)
    table = next(section for section in by_kid.sections if section.title == "Ranking by KID").table
    assert len(table) == 2
    assert "image_loss" not in table
    assert "FID" in table
    by_loss = report(runs, "image_loss", "test", with_pictures=False)
    assert not [section for section in by_loss.sections if section.title.startswith("Ranking")]
    assert "so they are listed, not ranked" in str([section.sentences for section in by_loss.sections])


def test_other_held_out_images_are_not_ranked_together(tmp_path):
    runs = [made_run(tmp_path, 0.2, results={"held_out": key}, loss=key) for key in ("aa", "bb")]
    found = report(runs, "kid", "test", with_pictures=False)
    assert not [section for section in found.sections if section.title.startswith("Ranking")]


def test_seeds_that_failed_stand_beside_those_that_count(tmp_path):
    runs = [made_run(tmp_path, 0.1, 0, loss="mae"), *(made_run(tmp_path, 0.2, seed, loss="mse") for seed in (0, 1))]
    for seed in (1, 2):
        runs.append(made_run(tmp_path, 0.1, seed, loss="mae"))
        runs[-1].fail("diverged", made_config(seed, loss="mae"))
    table = next(s for s in report(runs, "kid", "test", with_pictures=False).sections if s.title == "Ranking by KID").table
    assert list(table["seeds"]) == ["1 (2 failed)", 2]


def test_unlike_measurements_are_never_in_one_ranking(tmp_path):
    runs = grid(tmp_path / "a")
    for key, value in (("feature_extractor", "inception"), ("samples", 500), ("network_calls", 8), ("real_images", 10)):
        for schedule in ("cosine", "linear"):
            runs.append(made_run(tmp_path / key, 0.001, schedule=schedule, results={key: value}))
    found = report(runs, "kid", "test", with_pictures=False)
    rankings = [section for section in found.sections if section.title.startswith("Ranking by KID")]
    assert [len(section.table) for section in rankings] == [4, 2, 2, 2, 2]
    assert found.cells.iloc[0]["kid"] > 0.1
    assert "over 6 pairs" in next(s for s in found.sections if s.title == "Effect of each choice (1 of 5)").sentences[0]


def test_pairs_share_also_what_has_many_levels(tmp_path):
    for i, lr in enumerate((1e-4, 2e-4, 4e-4, 8e-4, 16e-4)):
        for loss, gain in (("mae", 0.0), ("mse", 0.01)):
            for seed in (0, 1):
                made_run(tmp_path, 0.5 + 0.1 * i + gain, settings={"optimizer.lr": lr}, loss=loss, seed=seed)
    by_title, _ = sections([Run(path) for path in tmp_path.iterdir()])
    assert (
        by_title["Effect of each choice"]
        .sentences[0]
        .startswith("mae beats mse on KID by 0.0100 [0.0100, 0.0100] (1 degree of freedom) over 10 pairs")
    )


def test_a_sampler_sweep_is_listed_and_drawn_not_ranked(tmp_path):
    for steps in (2, 4, 8):
        for seed in (0, 1):
            made_run(tmp_path, 1 / steps + seed / 100, seed, {"network_calls": steps}, {"sampler.steps": steps})
    by_title, _ = sections([Run(path) for path in tmp_path.iterdir()], with_pictures=True)
    assert "Ranking by KID" not in by_title
    assert list(by_title["Not ranked with others"].table["network calls"]) == [2, 4, 8]
    line = by_title["KID against network calls"].picture.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 4, 8]


def test_guidance_shows_what_labels_cost(tmp_path):
    for scale, kid, read in ((0.0, 0.3, 0.1), (1.0, 0.2, 0.9), (3.0, 0.25, 0.99)):
        calls = {"network_calls": 20 if scale == 1 else 40, "label_accuracy": read}
        made_run(tmp_path, kid, 0, calls, {"optimizer.scale": scale})
        made_run(tmp_path, kid + 0.02, 1, {**calls, "label_accuracy": read - 0.02}, {"optimizer.scale": scale})
    runs = [Run(path) for path in tmp_path.iterdir()]
    by_title, _ = sections(runs, with_pictures=True)
    assert sorted(by_title["Ranking by KID"].table["read as asked"]) == ["9.0%", "98.0%"]
    axis = against(rankings(collect(runs), "kid"), "label_accuracy", "read", KID, "optimizer.scale").axes[0]
    assert sorted(text.get_text() for text in axis.texts) == ["scale 0", "scale 1", "scale 3"]
    points = sorted(zip(axis.lines[0].get_xdata(), axis.lines[0].get_ydata(), strict=True))
    assert np.allclose(points, [(0.09, 0.31), (0.89, 0.21), (0.98, 0.26)])


TIMES = [((2.9, 3.1, 3.4), 0.4), ((3.4, 3.41), 0.01), ((1.0, 3.0), 0.7), ((1, 30), 0.7)]


@pytest.mark.parametrize(("seconds", "least"), TIMES)
def test_points_of_near_times_are_not_pressed_into_a_corner(tmp_path, seconds, least):
    """Nor does a difference of nothing fill the axis."""
    for i, each in enumerate(seconds):
        made_run(tmp_path, 0.1 + i / 10, results={"train_seconds": each}, loss=f"loss{i}")
    found, _ = sections([Run(path) for path in tmp_path.iterdir()], with_pictures=True)
    [axis] = found["KID against training time"].picture.axes
    shown = axis.transData.transform([(min(seconds), 1), (max(seconds), 1)])
    left, right = axis.transAxes.inverted().transform(shown)[:, 0]
    assert left > 0.03
    assert right < 0.97
    assert least <= right - left < 2 * least


def test_failed_unfinished_and_metricless_runs_are_named(tmp_path):
    made_run(tmp_path, 0.1)
    made_run(tmp_path, None, seed=1)
    made_run(tmp_path, float("nan"), seed=4)
    failed = Run(tmp_path / "failed")
    failed.fail("no memory", made_config(seed=2))
    Run(tmp_path / "begun").begin(made_config(seed=3))
    by_title, found = sections([Run(path) for path in sorted(tmp_path.iterdir())])
    said = by_title["Not in the ranking"].sentences
    assert "failed: failed: no memory" in said
    assert "begun: unfinished, 0 of 2 epochs" in said
    assert "seed-1: finished, but has no KID" in said
    assert "seed-4: finished, but has no KID" in said
    assert len(found.cells) == 1


def test_only_failures_still_make_a_report(tmp_path):
    Run(tmp_path / "failed").fail("no memory", {})
    found = report([Run(tmp_path / "failed")], "kid", "test")
    assert "failed: failed: no memory" in markdown(found)
    write_report(found, tmp_path)


def test_one_run(tmp_path):
    by_title, found = sections([made_run(tmp_path, 0.1)], with_pictures=True)
    assert by_title["Figures"].table["KID"].item() == "0.1000"
    assert "Effect of each choice" not in by_title
    assert len(found.cells) == 1


def test_fifty_runs(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(2):
        for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2):
            for network in "abcde":
                made_run(tmp_path, rng.random(), seed, settings={"optimizer.lr": lr}, network=network)
    by_title, found = sections([Run(path) for path in tmp_path.iterdir()], with_pictures=True)
    assert len(by_title["Ranking by KID"].table) == len(found.cells) == 25
    assert "KID against optimizer.lr" in by_title
    assert {path.suffix for path in write_report(found, tmp_path)} == {".md", ".csv", ".tex", ".html"}


def damaged_runs(folder: Path) -> list[Run]:
    """Six runs, in three of which a file is no longer what was written, and one whose picture is."""
    runs = [made_run(folder, 0.1 + seed / 100, seed=seed) for seed in range(6)]
    runs[0].results_file.write_text(runs[0].results_file.read_text()[:100])
    runs[1].config_file.write_text(runs[1].config_file.read_text()[:-30])
    runs[2].metrics_file.write_text("step,val/image_loss\nnine,0.5\n")
    runs[3].samples.mkdir()
    runs[3].final_grid.write_bytes(b"\x89PNG, or not")
    return runs


def test_a_bad_file_does_not_end_the_report_on_the_others(tmp_path):
    runs = damaged_runs(tmp_path)
    found = report(runs, "kid", "test")
    write_report(found, tmp_path)
    text = markdown(found)
    for file in (runs[0].results_file, runs[1].config_file):
        assert f"{file} is damaged: run the same command again, and it is made again" in text
    assert f"{runs[2].metrics_file} is damaged: mend it, or delete it and do without its curves" in text
    assert "6 runs: 4 finished, 2 damaged." in text
    assert len(found.cells) == 1
    assert found.cells["kid"].item() == pytest.approx(0.135)  # of the four others


@pytest.mark.parametrize("change", [{"figures": 3}, {"figures": {"kid": 1}}, {"figures": {"kid": {}}}, {"choices": 5},
                                    {"config_hash": None}, {"status": 5}, {"kid": "x"}, {"seed": []}])  # fmt: skip
def test_odd_results_do_not_end_the_report(tmp_path, change):
    made_run(tmp_path, 0.1)
    odd = made_run(tmp_path, 0.2, seed=1)
    odd.results_file.write_text(json.dumps({**json.loads(odd.results_file.read_text()), **change}))
    assert len(report(find_runs(tmp_path), "kid", "test").cells) == 1


def test_effects_that_are_not_known_have_no_empty_table(tmp_path):
    runs = [made_run(tmp_path, 0.1 + seed / 10, seed, settings={"optimizer.lr": seed + 1.0}) for seed in (0, 1)]
    by_title, found = sections(runs)
    effects = by_title["Effect of each choice"]
    assert "no two runs differ in it alone" in effects.sentences[0]
    assert effects.table is None
    assert "|  |" not in markdown(found, tmp_path)


def test_a_tie_is_called_alike(tmp_path):
    runs = [made_run(tmp_path, 0.1 + seed / 100, seed, loss=loss) for loss in ("mae", "mse") for seed in (0, 1)]
    by_title, _ = sections(runs)
    assert "are alike on KID: the difference is 0.0000 [0.0000, 0.0000]" in by_title["Effect of each choice"].sentences[0]


def test_a_run_of_minutes_beside_one_of_epochs(tmp_path):
    runs = [
        made_run(tmp_path, 0.1, settings={"epochs": 2}),
        made_run(tmp_path, 0.2, settings={"epochs": None, "minutes": 5}, results={"epochs": 1.7}),
    ]
    by_title, found = sections(runs)
    assert sorted(found.cells["trained_epochs"]) == [1.7, 2.0]
    assert list(by_title["Ranking by KID"].table["rank"]) == [1, 2]
