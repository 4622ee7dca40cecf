import numpy as np
import pytest
import torch

from diffusion_lab.metrics.classes import kid_of_classes, measure_kid_by_class
from tests.metrics.scorings import scoring_of
from tests.metrics.test_quality import kid_by_formula


def test_each_class_is_compared_with_its_own():
    generator = torch.Generator().manual_seed(0)
    real, generated = torch.randn(30, 5, generator=generator), torch.randn(26, 5, generator=generator)
    real_labels = torch.arange(30) % 3
    labels = torch.tensor([0] * 10 + [1] * 12 + [2] + [-1] * 3)  # one image of class 2 is too few
    found = kid_of_classes(real, generated, real_labels, labels)
    assert set(found) == {0, 1}
    for row in (0, 1):  # ten real images of each
        expected = kid_by_formula(real[real_labels == row].numpy(), generated[labels == row][:10].numpy())
        assert found[row] == pytest.approx(expected, rel=1e-6)


def test_swapped_classes_are_seen_where_kid_sees_nothing(monkeypatch):
    """Drawn is what is held out, with the wrong label on each."""
    features = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    features[20:] += 3
    labels = torch.tensor([0] * 20 + [1] * 20)
    scoring = scoring_of(None, torch.zeros(40, 1, 4, 4, dtype=torch.uint8), labels, classes=2)
    scoring.features = (features, features)
    right = measure_kid_by_class(scoring)
    scoring.features = (features, features.flip(0))
    wrong = measure_kid_by_class(scoring)
    assert wrong["kid_by_class"] > 10 * abs(right["kid_by_class"])
    assert set(wrong["kid_of_class"]) == {"0", "1"}
    assert wrong["kid_by_class"] == pytest.approx(np.mean(list(wrong["kid_of_class"].values())))


def test_images_without_classes_have_none():
    scoring = scoring_of(None, torch.zeros(4, 1, 4, 4, dtype=torch.uint8))
    scoring.features = (torch.zeros(4, 5), torch.zeros(4, 5))
    assert measure_kid_by_class(scoring) == {}
