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


@pytest.mark.parametrize("typed", ["long name", "out="])
def test_folders_whose_names_say_no_seed_are_one_training(tmp_path, typed):
    names = [
        f"optimizer.lr-0.001_seed-{seed}-{seed}f1b9831cfe{seed}" if typed == "long name" else f"t{seed}" for seed in (0, 1)
    ]
    first = [made_run(tmp_path / "made", 0.2, seed) for seed in (0, 1)]
    for run, name in zip(first, names, strict=True):
        run.folder.rename(tmp_path / name)
    later = [
        started(tmp_path / f"later{seed}", "init_from", tmp_path / name / "checkpoints/last.ckpt", f"c{seed}", 0.1, seed)
        for seed, name in enumerate(names)
    ]
    assert collect(later).factors == []
    labels = set(collect([*later, made_run(tmp_path / "none", 0.3)]).runs["init_from"])
    assert labels == {"none", "optimizer.lr-0.001" if typed == "long name" else "t0"}


def test_best_and_last_of_one_run_are_two_starts(tmp_path):
    first = [made_run(tmp_path / "first", 0.2, seed) for seed in (0, 1)]
    runs = [
        started(tmp_path / f"{name}{seed}", "init_from", run.checkpoints / f"{name}.ckpt", f"{name}{seed}", 0.1, seed)
        for name in ("best", "last")
        for seed, run in enumerate(first)
    ]
    assert sorted(set(collect(runs).runs["init_from"])) == ["default", "default (best)"]


@pytest.mark.parametrize("what", ["a teacher's teacher", "space", "images"])
def test_trainings_of_one_name_that_differ_in_what_they_started_from_are_two(tmp_path, what):
    old = [made_run(tmp_path / f"old{epochs}", 0.2, settings={"epochs": epochs}) for epochs in (2, 50)]
    runs = []
    for i, each in enumerate(old):
        more = {"a teacher's teacher": {"teacher": {"checkpoint": str(each.folder)}}, "space": {"space": {"size": i}}}.get(
            what, {}
        )
        contents = {"data": f"d{i}" if what == "images" else "d", **({"teacher": f"t{i}"} if "teacher" in more else {})}
        parent = made_run(tmp_path / f"parent{i}", 0.2, settings={**more, "contents": contents})
        parent.folder.rename(tmp_path / f"parent{i}/same")
        runs.append(started(tmp_path / f"child{i}", "init_from", tmp_path / f"parent{i}/same", f"c{i}", 0.1 + i, 0))
    levels = set(collect(runs).runs["init_from"])
    assert len(levels) == 2
    assert all(level.startswith("same-") for level in levels)


def test_all_from_one_seed_are_not_each_from_their_own(tmp_path):
    first = [made_run(tmp_path / "first", 0.2, seed) for seed in (0, 1, 2)]
    own = [started(tmp_path / f"own{i}", "teacher", run.folder, f"c{i}", 0.1, i) for i, run in enumerate(first)]
    one = [started(tmp_path / f"one{i}", "teacher", first[0].folder, "c0", 0.3, i) for i in (1, 2)]
    assert collect(one).factors == []  # where all are from one, there is nothing to tell
    levels = collect([*own, *one]).runs.groupby("teacher.checkpoint")["kid"].mean()
    assert levels.round(3).to_dict() == {"default": 0.1, "default, seed 0": 0.3}
