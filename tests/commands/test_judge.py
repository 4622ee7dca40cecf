"""`judge.py` on a few digits, with a classifier of them whose weights are random."""

from types import SimpleNamespace

import pandas as pd
import pytest

from diffusion_lab.commands.judge import _sizes, judge
from tests.conftest import composed

SMALL = ("images=8", "pool=16", "real=20", "sets=3", "data.max_images=120", "metrics/figures=[mind,density_coverage]")
SMALL += ("metrics.figures.mind.directions=20",)


def test_it_says_writes_and_draws_what_each_metric_sees(tmp_path, capsys, monkeypatch):
    pixels = {"forward": lambda _, pixels: pixels.flatten(1).float(), "identity": "pixels"}  # which names what is kept
    for name, value in pixels.items():
        monkeypatch.setattr(f"diffusion_lab.metrics.features.EfficientNetLite0.{name}", value)
    verdict = {"figure": "mind", "worsening": "blur", "smallest": 0.7, "seen": 2, "reversed": False}
    pd.DataFrame([{"data": "frogs 64 px", "extractor": "means", "images": 99, **verdict}]).to_csv(tmp_path / "frogs.csv")
    judge(composed("judge", *SMALL, f"beside=[{tmp_path}/frogs.csv]"), str(tmp_path / "judge"))
    said = capsys.readouterr().out
    assert "MIND of pixels, with 8 images, sees " in said
    assert (tmp_path / "judge/judge.md").read_text().count("- ") >= 3
    found = pd.read_csv(tmp_path / "judge/judge.csv")
    assert set(found["figure"]) == {"mind", "density", "coverage"}
    assert found.groupby("figure").size().eq(8).all()
    raised = found[(found["figure"] == "mind") & (found["worsening"] == "colours")].iloc[0]
    assert raised["rho"] > 0.8
    assert raised["smallest"] < 0.2
    assert len(pd.read_csv(tmp_path / "judge/values.csv")) == 3 * (1 + 8 * 4)
    assert (tmp_path / "judge/judge.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.max_images=8"], "images are too few to be judged by: sets of 4 want twice as many"),
        (["beside=[none.csv]"], "beside=none.csv cannot be read"),
        (["only=[frogs]"], "only=['frogs'] must be some of blur, noise"),
        (["sets=1"], "sets=1 must be a whole number, at least 3"),
        (["metrics/extractor=classifier"], "wants metrics.classifier=FILE"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        judge(composed("judge", *SMALL, *words), str(tmp_path / "judge"))
    assert said in capsys.readouterr().err
    assert not (tmp_path / "judge").exists()


def test_sets_are_as_large_as_the_images_let_them_be(caplog):
    decoded = SimpleNamespace(train=range(108), held_out=range(12))
    with caplog.at_level("INFO"):
        sizes = _sizes(composed("judge"), decoded)
    assert (sizes.images, sizes.pool, sizes.whole, sizes.real) == (54, 108, 108, 12)
    assert "sets of 54 images, for there are 108 to take them from" in caplog.text
