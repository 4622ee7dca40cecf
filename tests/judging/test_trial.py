import numpy as np
import pytest
import torch

from diffusion_lab.data.cache import Decoded
from diffusion_lab.errors import UserError
from diffusion_lab.figures import Figure
from diffusion_lab.judging.trial import Sizes, trial
from diffusion_lab.judging.worsenings import WORSENINGS
from diffusion_lab.metrics.labels import measure_labels
from diffusion_lab.metrics.scoring import measures
from tests.metrics.scorings import Means


@measures(Figure("brightness", "brightness"))
def brightness(scoring) -> dict:
    """How much brighter the judged images are than the real ones, by the first feature."""
    real, judged = scoring.features
    return {"brightness": (judged[:, 0].mean() - real[:, 0].mean()).item(), "brightness_std": 0.0}


@pytest.fixture
def decoded() -> Decoded:
    images = np.random.default_rng(0).integers(80, 120, (60, 8, 8, 1), dtype=np.uint8)
    return Decoded(images, np.arange(60) % 4, np.arange(40), np.arange(40, 60), list("abcd"), "x")


def test_every_step_is_judged_so_many_times(decoded):
    values = trial(decoded, Means(), {"brightness": brightness}, WORSENINGS, Sizes(20, 30, 40, 10, 3), seed=0)
    counts = values.groupby(["worsening", "step"]).size()
    assert set(counts) == {3}
    assert len(counts) == 1 + sum(len(worsening.steps) for worsening in WORSENINGS.values())
    of = values.groupby("worsening")["of"].unique().map(list)
    assert (of[""], of["blur"], of["duplicates"]) == ([40], [30], [40])
    assert of["dropped classes"][0] < 40
    assert set(values["figure"]) == {"brightness"}
    raised = values[values["worsening"] == "colours"].groupby("step")["value"].mean()
    whole = values[values["worsening"] == ""]["value"].mean()
    np.testing.assert_allclose(raised - whole, raised.index, atol=0.015)  # grey is raised by as much of white as it says
    assert torch.tensor(values["value"].to_numpy()).isfinite().all()


def test_a_metric_that_looks_at_more_than_features_is_no_subject(decoded):
    labels = {"labels": lambda scoring: measure_labels(scoring, "file")}
    with pytest.raises(UserError, match=r"metrics.figures.labels looks at more than features"):
        trial(decoded, Means(), labels, {}, Sizes(20, 30, 40, 10, 3), seed=0)
