import re

import pytest

from diffusion_lab.experiments.names import run_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", "default"),
        ("loss-mae\tschedule-linear", "loss-mae_schedule-linear"),
        ("a-[1, 2]\tb-{x:'y'}\tc-x/y", "a-_1_2__b-_x_y__c-x_y"),
    ],
)
def test_names_are_one_safe_folder(overrides, name):
    assert run_name(overrides) == name


def test_paths_that_differ_by_a_space_have_names_that_differ():
    names = [run_name(f"init_from-{path}") for path in ("a_b/last.ckpt", "a b/last.ckpt", "a  b/last.ckpt", "a&b/last.ckpt")]
    assert len(set(names)) == 4
    assert names[0] == "init_from-a_b_last.ckpt"  # as ever: finished runs are found
    assert re.fullmatch(r"init_from-a_b_last.ckpt-[0-9a-f]{4}", names[1])


def test_a_long_name_says_the_choices_and_the_seed_first():
    words = ["batch_size-32", "data.max_images-512", "epochs-3", "init_from-outputs/a/checkpoints/last.ckpt", "loss-mae"]
    words += ["metrics.samples-200", "network.widths-[64,64,96]", "schedule-linear", "seed-1"]
    name, other = (run_name("\t".join([*words[:4], loss, *words[5:]])) for loss in ("loss-mae", "loss-mse"))
    assert re.fullmatch("loss-mae_schedule-linear_seed-1_batch_size-32-[0-9a-f]{12}", name)
    assert other.startswith("loss-mse_schedule-linear_seed-1_")
    assert name[-12:] != other[-12:] != run_name("\t".join([*words, "target-noise"]))[-12:]


def test_long_names_stay_short_and_different():
    names = {run_name("x" * 400 + end) for end in "ab"}
    assert len(names) == 2
    assert all(len(name) < 60 for name in names)
