"""A report on the reference's own runs."""

import pytest

from diffusion_lab.reports import published
from tests.reports.made import grid, made_run, sections


def published_runs(root, kid_of):
    return [
        made_run(
            root, kid_of(kid) + 0.0001 * seed, seed, network="reference_unet", loss=loss, target=target, schedule=schedule
        )
        for (loss, target, schedule), kid in published.KID["flowers"].items()
        for seed in (0, 1, 2)
    ]


@pytest.mark.parametrize(("sign", "verdict", "rho"), [(1, "Here: holds", "1.00"), (-1, "Here: does not hold", "-1.00")])
def test_the_published_table_is_set_beside_the_references_runs(tmp_path, sign, verdict, rho):
    by_title, _ = sections(published_runs(tmp_path, lambda kid: 0.5 + sign * kid))
    section = by_title["Beside the published table"]
    said = "\n".join(section.sentences)
    assert f"Spearman's rho {rho}" in said
    assert said.count(verdict) == 3
    assert "linear_clipped" in said
    assert list(section.table["published rank"]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(section.table["our rank"]) == [1, 2, 3, 4, 5, 6, 7, 8][::sign]
    assert f"Published best cell: mae / noise / cosine. Its rank here: {1 if sign == 1 else 8}." in said


def test_other_networks_are_not_set_beside_it(tmp_path):
    by_title, _ = sections(grid(tmp_path))
    assert "Beside the published table" not in by_title
