import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from diffusion_lab.data.cache import Decoded
from diffusion_lab.experiments.pictures import save_copies
from diffusion_lab.metrics import nearest
from diffusion_lab.metrics.copies import alarms, measure_copies
from diffusion_lab.metrics.nearest import two_nearest
from tests.metrics.scorings import scoring_of


@pytest.fixture
def decoded() -> Decoded:
    """40 images to train on, 20 held out, all noise."""
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
    return Decoded(images, np.full(60, -1), np.arange(0, 40), np.arange(40, 60), [], "x")


def test_the_two_nearest_are_scikit_learns(decoded, monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", 7)
    drawn = torch.from_numpy(decoded.images[[3, 45, 50]]).permute(0, 3, 1, 2)
    found = two_nearest(drawn, decoded)
    flat = decoded.images.transpose(0, 3, 1, 2).reshape(60, -1) / 255.0
    distance, row = NearestNeighbors(n_neighbors=2).fit(flat[:40]).kneighbors(flat[[3, 45, 50]])
    np.testing.assert_allclose(found.distance, distance, atol=1e-3)
    np.testing.assert_array_equal(found.row, row)


def test_large_images_are_compared_by_the_means_of_their_pixels():
    images = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 1), dtype=np.uint8)
    decoded = Decoded(images, np.full(9, -1), np.arange(8), np.array([8]), [], "x")
    found = two_nearest(torch.from_numpy(images[8:]).permute(0, 3, 1, 2), decoded)
    means = images.reshape(9, 32, 2, 32, 2).mean((2, 4)).reshape(9, -1) / 255
    expected = np.sort(np.linalg.norm(means[:8] - means[8], axis=1))[:2]
    np.testing.assert_allclose(found.distance[0], expected, rtol=1e-5)


def test_copies_are_counted_and_shown(decoded, tmp_path):
    scoring = scoring_of(None, torch.zeros(4, 3, 6, 5, dtype=torch.uint8))
    scoring.decoded = decoded
    drawn = decoded.images[[0, 1, 2, 40, 41, 42, 43, 44]].astype(int)
    drawn[:3] += np.random.default_rng(1).integers(-8, 9, drawn[:3].shape)  # three are nearly those that were trained on
    scoring.generated = torch.from_numpy(drawn.clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)
    assert measure_copies(scoring) == {"copies": 3 / 8, "copies_held_out": 0}
    assert scoring.nearest.row[:3, 0].tolist() == [0, 1, 2]
    assert save_copies(scoring.generated, scoring.nearest, decoded, tmp_path / "copies.png").is_file()


def test_the_alarm_is_raised_by_more_than_chance():
    def raised(copies: int, held_out: int) -> bool:
        return any(alarms({"copies": copies / 1000, "samples": 1000, "copies_held_out": held_out / 500, "real_images": 500}))

    assert raised(30, 0)
    assert not raised(3, 0)  # of 1,500 images those three are drawn ones by chance in 3 cases of 10
    assert not raised(60, 30)
    few = {"samples": 100, "copies_held_out": 0.0, "real_images": 7}  # which prove nothing
    assert list(alarms({"copies": 0.36, **few}))
    assert not list(alarms({"copies": 0.05, **few}))
    assert not list(alarms({"kid": 0.1}))
