"""Averages put together afterwards against those that were kept while training, and against numerical integrals."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from diffusion_lab.averages import LENGTHS, LONGEST, exponent, move, overlap, weights_of_length, write_snapshot
from diffusion_lab.errors import UserError


def profile(step: float, gamma: float):
    return lambda at: (gamma + 1) * at**gamma / step ** (gamma + 1) if at <= step else 0.0


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_length_is_the_deviation_of_the_weighting(length):
    weight = profile(1, exponent(length))
    mean = quad(lambda at: at * weight(at), 0, 1)[0]
    assert quad(lambda at: (at - mean) ** 2 * weight(at), 0, 1)[0] ** 0.5 == pytest.approx(length, rel=1e-6)


def test_the_papers_exponents():
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.1) == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize(("one", "other"), [((3, 2), (5, 7)), ((5, 7), (3, 2)), ((4, 1.5), (4, 16.97))])
def test_the_overlap_is_the_integral(one, other):
    product = quad(lambda at: profile(*one)(at) * profile(*other)(at), 0, min(one[0], other[0]))[0]
    assert overlap(*one, *other) == pytest.approx(product, rel=1e-6)


def trained(folder, wanted: float, steps: int = 2000, every: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact average of some weights that wander, and the last weights; the snapshots are left in `folder`."""
    torch.manual_seed(0)
    current = torch.zeros(50, dtype=torch.float64)
    averages = {length: torch.zeros(50, dtype=torch.float64) for length in (*LENGTHS, wanted)}
    for step in range(1, steps + 1):
        current = current + torch.randn(50, dtype=torch.float64) / steps**0.5
        for length, average in averages.items():
            move([average], [current], step, exponent(length))
        if step % every == 0:
            kept = {length: {"weight": averages[length].float()} for length in LENGTHS}
            write_snapshot(folder, step, kept)
    return averages[wanted], current


@pytest.mark.parametrize(("length", "most"), [(0.03, 0.02), (0.07, 0.01), (0.15, 0.01), (0.25, 0.02)])
def test_an_average_made_afterwards_is_the_one_kept_while_training(tmp_path, length, most):
    exact, last = trained(tmp_path / "averages", length)
    made = weights_of_length(tmp_path / "averages", 2000, length)["weight"].double()
    assert (made - exact).norm() < most * (last - exact).norm()


def test_a_length_that_was_kept_is_itself(tmp_path):
    trained(tmp_path, 0.2)
    exact, _ = trained(tmp_path, 0.1)
    assert torch.allclose(weights_of_length(tmp_path, 2000, 0.1)["weight"], exact.float(), atol=1e-5)
    assert not torch.allclose(weights_of_length(tmp_path, 1950, 0.1)["weight"], exact.float(), atol=1e-2)  # at step 1900


def test_what_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(UserError, match="needs the snapshots of a training with snapshots=1"):
        weights_of_length(tmp_path, 100, 0.1)
    (tmp_path / "000000010.safetensors").write_bytes(b"no snapshot")
    with pytest.raises(UserError, match="is no snapshot of averaged weights"):
        weights_of_length(tmp_path, 100, 0.1)
    for length in (0, -1, LONGEST, np.inf):
        with pytest.raises(UserError, match=r"must be above 0 and below 0\.2887"):
            weights_of_length(tmp_path, 100, length)
