import pytest

from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.collect import collect, find_runs
from tests.reports.made import made_config, made_run


def test_factors_are_what_differs_choices_first(tmp_path):
    runs = [
        made_run(tmp_path, 0.1, loss=loss, settings={"optimizer.lr": lr}) for loss in ("mae", "mse") for lr in (1e-3, 2e-3)
    ]
    collection = collect(runs)
    assert collection.factors == ["loss", "optimizer.lr"]  # not loss._target_, which the word loss implies
    assert collection.choices["schedule"] == "cosine"
    assert sorted(collection.runs["optimizer.lr"].unique()) == [1e-3, 2e-3]
    assert collection.changed_together == {}


def test_the_seed_and_the_name_are_no_factors(tmp_path):
    runs = [made_run(tmp_path, 0.1, seed=seed, settings={"name": f"n{seed}"}) for seed in (0, 1)]
    assert collect(runs).factors == []
    assert list(collect(runs).runs["seed"]) == [0, 1]


def test_what_never_changed_alone_is_said(tmp_path):
    settings = {"mae": {"optimizer.lr": 1e-3, "epochs": 2}, "mse": {"optimizer.lr": 2e-3, "epochs": 2}}
    runs = [made_run(tmp_path, 0.1, loss=loss, settings=settings[loss]) for loss in ("mae", "mse")]
    collection = collect(runs)
    assert collection.factors == ["loss"]
    assert collection.changed_together == {"loss": ["optimizer.lr"]}


def test_a_choice_that_changed_with_another_is_not_called_shared(tmp_path):
    runs = [made_run(tmp_path, 0.1, network=network, sampler=sampler) for network, sampler in (("a", "ddim"), ("b", "ddpm"))]
    collection = collect(runs)
    assert collection.factors == ["network"]
    assert "sampler" not in collection.choices
    assert collection.changed_together == {"network": ["sampler"]}


def test_settings_of_a_class_that_is_a_factor_are_not_said_to_change_with_it(tmp_path):
    """An optimizer without a word among the choices: Muon's momentum belongs to Muon."""
    settings = {
        "adamw": {"optimizer._target_": "torch.optim.AdamW", "optimizer.fused": True},
        "muon": {"optimizer._target_": "diffusion_lab.training.optimizers.Muon", "optimizer.momentum": 0.95},
    }
    collection = collect([made_run(tmp_path, 0.1, settings=each | {"name": name}) for name, each in settings.items()])
    assert (collection.factors, collection.changed_together) == (["optimizer"], {})


def test_copies_of_a_setting_are_no_factors_of_their_own(tmp_path):
    runs = [made_run(tmp_path, 0.1, settings={"epochs": n, "optimizer.total": n}) for n in (2, 3)]
    assert (collect(runs).factors, collect(runs).changed_together) == (["epochs"], {})


def test_a_class_is_shown_by_its_bare_name(tmp_path):
    runs = [made_run(tmp_path, 0.1, settings={"optimizer._target_": f"torch.optim.{name}"}) for name in ("Adam", "SGD")]
    collection = collect(runs)
    assert collection.factors == ["optimizer"]
    assert sorted(collection.runs["optimizer"]) == ["Adam", "SGD"]


def test_failed_unfinished_and_set_aside_runs_are_kept_apart(tmp_path):
    made_run(tmp_path, 0.1)
    failed = Run(tmp_path / "failed")
    failed.begin(made_config(seed=1))
    failed.fail("out of\nmemory", made_config(seed=1))
    unfinished = Run(tmp_path / "sub/unfinished")
    unfinished.begin(made_config(seed=2))
    unfinished.metrics_file.write_text("step,val/image_loss,train_seconds\n9,0.5,1\n")
    Run(tmp_path / "old~0123456789ab").begin(made_config(seed=3))
    collection = collect(find_runs(tmp_path))
    assert list(collection.runs["status"].sort_values()) == ["failed", "finished", "unfinished"]
    assert len(collection.finished) == 1
    by_name = collection.runs.set_index("name")
    assert by_name.loc["failed", "error"] == "out of memory"
    assert by_name.loc["unfinished", "progress"] == "1 of 2 epochs"
    assert collection.set_aside == ["old~0123456789ab"]


def test_results_alone_are_enough(tmp_path):
    for loss in ("mae", "mse"):
        made_run(tmp_path, 0.1, loss=loss).config_file.unlink()
    assert collect(find_runs(tmp_path)).factors == ["loss"]


def test_the_same_run_under_another_name_is_no_further_seed(tmp_path):
    runs = [made_run(tmp_path / name, 0.1, seed=seed) for name in ("a", "b") for seed in (0, 1)]
    collection = collect(runs)
    assert len(collection.finished) == 2
    assert collection.repeats == ["seed-0", "seed-1"]


def test_epochs_asked_for_are_not_those_that_were_trained(tmp_path):
    runs = [made_run(tmp_path, 0.1, settings={"epochs": asked}, results={"epochs": 3}) for asked in (4, 8)]
    table = collect(runs).runs
    assert list(table["epochs"]) == [4, 8]
    assert list(table["trained_epochs"]) == [3, 3]


def test_a_setting_that_a_run_has_not_is_none(tmp_path):
    runs = [made_run(tmp_path, 0.1, settings=settings) for settings in ({}, {"optimizer.warmup": 5})]
    assert [str(level) for level in collect(runs).runs["optimizer.warmup"]] == ["none", "5"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 5}, "1 of 5 epochs"),
        ({"epochs": None, "minutes": 20}, "1 epochs of 20 minutes"),
        ({"epochs": None}, "1 epochs"),
    ],
)
def test_how_far_an_unfinished_run_is(tmp_path, settings, expected):
    run = Run(tmp_path / "unfinished")
    run.begin(made_config(settings=settings))
    run.metrics_file.write_text("step,val/image_loss,train_seconds\n9,0.5,1\n")
    assert list(collect([run]).runs["progress"]) == [expected]
