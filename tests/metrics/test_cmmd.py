"""Against torch-fidelity's kernel and estimator, and a closed form."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kernel_rbf, mmd2

from diffusion_lab.metrics.cmmd import cmmd


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(80, 12, generator=generator), torch.randn(80, 12, generator=generator).abs() * 3


@pytest.mark.parametrize("sigma", [10, 0.5])
def test_it_is_torch_fidelitys_of_features_of_length_one(features, sigma):
    x, y = (part.double().numpy() / np.linalg.norm(part.double().numpy(), axis=1, keepdims=True) for part in features)
    kernels = [kernel_rbf(a, b, kid_kernel_rbf_sigma=sigma) for a, b in ((x, x), (x, y), (y, y))]
    assert cmmd(*features, sigma) == pytest.approx(1000 * mmd2(*kernels, mmd_est="biased"), rel=1e-9)


def test_of_two_points_it_is_what_a_hand_computes():
    """One at a right angle to the other: sqrt(2) apart, whatever their length."""
    x, y = torch.tensor([[3.0, 0.0]] * 2), torch.tensor([[0.0, 0.1]] * 3)
    assert cmmd(x, y, sigma=10) == pytest.approx(2000 * (1 - np.exp(-2 / 200)), rel=1e-9)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)


def test_at_ten_only_the_means_count(features):
    """The claim of its docstring: the kernel is nearly linear in the product there."""
    x, y = (part.double() / part.double().norm(dim=1, keepdim=True) for part in features)
    assert cmmd(x, y) == pytest.approx(1000 * ((x.mean(0) - y.mean(0)) ** 2).sum().item() / 100, rel=0.02)
