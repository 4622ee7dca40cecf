"""Runs that started from others: seeds stay seeds."""

import pytest

from diffusion_lab.reports.collect import collect
from diffusion_lab.reports.ranking import rankings
from tests.reports.made import made_run

STARTS = {
    "resume_from": "resume_from",
    "init_from": "init_from",
    "teacher": "teacher.checkpoint",
    "autoencoder": "space.autoencoder",
}


def started(root, key: str, place, content: str, kid: float, seed: int, **more):
    """A run of that seed that started from `place`."""
    part, _, leaf = STARTS[key].partition(".")
    start = {part: {leaf: str(place)} if leaf else str(place)}
    return made_run(root, kid, seed, settings={**start, "contents": {"data": "d", key: content}, **more})


@pytest.mark.parametrize("key", STARTS)
def test_seeds_that_go_on_from_seeds_are_one_cell(tmp_path, key):
    first = [made_run(tmp_path / "first", 0.2, seed) for seed in (0, 1, 2)]
    files = [run.last_checkpoint if seed else run.folder for seed, run in enumerate(first)]
    later = [started(tmp_path / f"later{i}", key, file, f"content{i}", 0.1 + i / 100, i) for i, file in enumerate(files)]
    collection = collect(later)
    assert collection.factors == []
    assert [cell.figures["kid"].n for cell in rankings(collection, "kid")[0].cells] == [3]
    both = collect([*first, *later])
    assert both.factors == [STARTS[key]]
    cells = {cell.label.split()[-1]: cell for cell in rankings(both, "kid")[0].cells}  # "checkpoint none" is none
    assert {label: cell.figures["kid"].n for label, cell in cells.items()} == {"default": 3, "none": 3}
    assert cells["default"].figures["kid"].mean == pytest.approx(0.11)


def test_other_trainings_and_files_of_no_run_are_other_choices(tmp_path):
    short = [made_run(tmp_path / "short", 0.2, seed, settings={"epochs": 2}) for seed in (0, 1)]
    long = [made_run(tmp_path / "long", 0.2, seed, settings={"epochs": 9}) for seed in (0, 1)]
    runs = [
        started(tmp_path / f"{kind}{seed}", "init_from", run.folder, f"{kind}{seed}", 0.1, seed)
        for kind, each in (("short", short), ("long", long))
        for seed, run in enumerate(each)
    ]
    collection = collect(runs)
    assert sorted(collection.runs["init_from"].unique()) == ["epochs-2", "epochs-9"]
    unknown = [started(tmp_path / f"u{i}", "init_from", "gone/model.safetensors", f"ab{i}", 0.1, 0) for i in (0, 1)]
    found = collect([*runs, *unknown]).runs["init_from"].unique()
    assert sorted(found) == [
        "epochs-2",
        "epochs-9",
        "model-ab0",
        "model-ab1",
    ]


def test_places_of_another_machine_or_typed_elsewhere_are_found_from_the_run(tmp_path):
    first = [made_run(tmp_path / "outputs/first", 0.2, seed) for seed in (0, 1)]
    places = [run.folder.relative_to(tmp_path) for run in first]
    later = [started(tmp_path / f"outputs/{i}", "resume_from", place, f"c{i}", 0.1, i) for i, place in enumerate(places)]
    assert collect(later).factors == []
