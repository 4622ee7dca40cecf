"""KID and FID against their formulas, written out in float64, and against torch-fidelity's own functions."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from diffusion_lab.metrics.quality import _Features, fid, kid, kid_image_error, kid_per_batch


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    """Non-negative, unequal, correlated: like pooled activations of two sets of images."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.rand(48, 48, generator=generator) / 7
    real = torch.randn(300, 48, generator=generator).abs() @ mixing
    generated = (torch.randn(260, 48, generator=generator) + 0.3).abs() @ mixing
    return real, generated


def kid_by_formula(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, eq. 4, with the kernel (x.y / d + 1)^3."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    m, n, d = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
    return within - 2 * xy.mean()


def test_kid_of_one_whole_subset_is_the_formula(features):
    real, generated = features[0][:200], features[1][:200]
    mean, std = kid(real, generated, seed=0, subsets=1, subset_size=200)
    assert mean == pytest.approx(kid_by_formula(real.numpy(), generated.numpy()), rel=1e-5)
    assert std == 0


def test_kid_over_subsets_has_the_formulas_mean_and_torch_fidelitys_spread(features):
    """Each subset's estimate is unbiased for the one over all images; both libraries draw subsets of their own."""
    real, generated = features
    mean, std = kid(real, generated, seed=0, subsets=2000, subset_size=100)
    options = {"kid_subsets": 2000, "kid_subset_size": 100, "verbose": False}
    theirs = kid_features_to_metric(generated.double(), real.double(), **options)
    expected = kid_by_formula(real.numpy(), generated.numpy())
    assert mean == pytest.approx(expected, abs=4 * std / 2000**0.5)
    assert theirs["kernel_inception_distance_mean"] == pytest.approx(expected, abs=4 * std / 2000**0.5)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.1)


def test_kid_equals_torch_fidelitys_where_nothing_is_random(features):
    real, generated = features[0][:200].double(), features[1][:200].double()
    options = {"kid_subsets": 1, "kid_subset_size": 200, "verbose": False}
    theirs = kid_features_to_metric(generated, real, **options)["kernel_inception_distance_mean"]
    assert kid(real, generated, 0, subsets=1, subset_size=200)[0] == pytest.approx(theirs, rel=1e-5)


def test_kid_per_batch_averages_the_formula_over_batches_in_order(features):
    real, generated = features
    pairs = [(real[i : i + 128].numpy(), generated[i : i + 128].numpy()) for i in (0, 128)]  # a last one of 4 is left out
    expected = [kid_by_formula(*pair) for pair in pairs]
    mean, std = kid_per_batch(real, generated, batch_size=128)
    assert mean == pytest.approx(np.mean(expected), rel=1e-5)
    assert std == pytest.approx(np.std(expected), rel=1e-5)
    few = kid_by_formula(real[:100].numpy(), generated[:100].numpy())
    assert kid_per_batch(real[:120], generated[:100], batch_size=128)[0] == pytest.approx(few, rel=1e-5)


def test_fid_is_the_formula_and_torch_fidelitys(features):
    real, generated = (part.double().numpy() for part in features)
    root = scipy.linalg.sqrtm(np.cov(real, rowvar=False) @ np.cov(generated, rowvar=False)).real
    gap = ((real.mean(0) - generated.mean(0)) ** 2).sum()
    expected = gap + np.trace(np.cov(real, rowvar=False) + np.cov(generated, rowvar=False) - 2 * root)
    ours = fid(*features)
    assert ours == pytest.approx(expected, rel=1e-5)
    statistics = (fid_features_to_statistics(torch.from_numpy(part)) for part in (real, generated))
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("count", [30, 47])
def test_fid_of_fewer_images_than_features_is_torchmetrics(features, count):
    real, generated = (part.double() for part in features)
    metric = FrechetInceptionDistance(feature=_Features(48))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(generated[:count], real=False)
    assert fid(real, generated[:count]) == pytest.approx(metric.compute().item(), rel=1e-6)
    generated[0, 0] = torch.nan
    assert np.isnan(fid(real, generated))


def test_fewer_images_than_a_subset_lower_it_and_say_so(features, caplog):
    with caplog.at_level("INFO", logger="diffusion_lab"):
        _, std = kid(features[0][:40], features[1][:30], seed=0, subset_size=500)
    assert "30 images are fewer than subset_size=500; subsets of 15" in caplog.text
    assert std > 0


def test_kid_leaves_the_global_random_state_alone(features):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = kid(*features, seed=3, subset_size=50)
    assert torch.rand(1) == expected
    assert kid(*features, seed=3, subset_size=50) == first
    assert kid(*features, seed=4, subset_size=50) != first


def test_the_error_of_kid_is_how_much_other_images_change_it():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 6, generator=generator)
    sets = [torch.randn(150, 6, generator=generator) * 1.2 + 0.3 for _ in range(300)]
    values = [kid_by_formula(real.numpy(), each.numpy()) for each in sets]
    errors = [kid_image_error(real, each, seed=0) for each in sets[:40]]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)
    assert 0 < kid_image_error(real[:4], sets[0][:4], seed=0) < 100  # one of the four may be drawn four times
