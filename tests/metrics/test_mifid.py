"""Against torchmetrics' MiFID, and of images some of which are copies."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

from diffusion_lab.data.cache import Decoded
from diffusion_lab.metrics import mifid as module
from diffusion_lab.metrics.mifid import measure_mifid, mifid, training_distance
from diffusion_lab.metrics.quality import _Features, fid
from tests.metrics.scorings import scoring_of


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    """Positive ones, so that all directions are near each other; drawn ones, and those trained on."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, 8, generator=generator).abs() + 0.5 for count in (60, 90))


def test_the_distance_is_scikit_learns(features, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    drawn, training = features
    expected = pairwise_distances(drawn.double(), training.double(), metric="cosine").min(1).mean()
    assert training_distance(drawn, training) == pytest.approx(expected, rel=1e-9)
    assert training_distance(-drawn, training) == pytest.approx(expected, rel=1e-9)  # the paper's absolute value
    assert training_distance(training[:5], training) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 1e-6])
def test_it_is_torchmetrics(features, threshold):
    """Whose first images are those whose nearest are looked for among the second: the drawn ones in the paper."""
    drawn, training = features
    theirs = MemorizationInformedFrechetInceptionDistance(feature=_Features(8), cosine_distance_eps=threshold)
    theirs.set_dtype(torch.float64)
    theirs.update(drawn.double(), real=True)
    theirs.update(training.double(), real=False)
    ours = mifid(fid(training, drawn), training_distance(drawn, training), threshold)
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_a_model_that_copies_is_punished_and_one_that_does_not_is_not(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), dtype=np.uint8)
    scoring = scoring_of(None, torch.zeros(4, 1, 4, 4, dtype=torch.uint8), cache_dir=tmp_path)
    scoring.decoded = Decoded(images, np.full(60, -1), np.arange(0, 40), np.arange(40, 60), [], "x")
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    scoring.extractor.forward = lambda shown: shown.float().flatten(1)
    scoring.generated = torch.cat([pixels[:20], pixels[40:41]])
    found = measure_mifid(scoring)
    plain = fid(pixels[40:].flatten(1), scoring.generated.flatten(1))
    assert found["training_distance"] < found["training_distance_held_out"] / 2
    assert found["mifid"] == pytest.approx(plain / found["training_distance"])
    assert measure_mifid(scoring, threshold=1e-9)["mifid"] == pytest.approx(plain)
    del scoring.features
    scoring.generated = pixels[40:55]
    honest = measure_mifid(scoring)
    assert honest["mifid"] == pytest.approx(fid(*scoring.features))
    assert len(list((tmp_path / "features").iterdir())) == 2  # neither is taken for the other
