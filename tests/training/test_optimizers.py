"""Muon beside torch's own: the same steps of matrices, and AdamW's of all else."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from diffusion_lab.training.optimizers import Muon, orthogonal


def gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Linear(4, 9)], ids=["wide", "high"])
def test_weights_of_a_linear_layer_take_torchs_steps_of_muon_and_biases_those_of_adamw(layer):
    theirs = nn.Linear(layer.in_features, layer.out_features)
    theirs.load_state_dict(layer.state_dict())
    ours = Muon(layer.parameters(), lr=0.01, weight_decay=0.1, momentum=0.9)
    muon = torch.optim.Muon([theirs.weight], lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([theirs.bias], lr=0.01, weight_decay=0.1, betas=(0.9, 0.95))
    for step in range(3):
        gradients(layer, step)
        gradients(theirs, step)
        for optimizer in (ours, muon, adamw):
            optimizer.step()
    # theirs iterates in bfloat16: to a hundredth of three steps, each of a root mean square of 0.002
    torch.testing.assert_close(layer.weight, theirs.weight, rtol=0, atol=2e-4)
    torch.testing.assert_close(layer.bias, theirs.bias)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_a_convolution_steps_as_the_matrix_of_its_patches(memory):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, 3, bias=False).to(memory_format=memory)
    matrix = nn.Parameter(layer.weight.detach().contiguous().flatten(1).clone())
    ours = Muon(layer.parameters(), lr=0.01)
    muon = torch.optim.Muon([matrix], lr=0.01, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        gradients(layer, step)
        matrix.grad = layer.weight.grad.contiguous().flatten(1).clone()
        ours.step()
        muon.step()
    torch.testing.assert_close(layer.weight.flatten(1), matrix, rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(64, 576), (300, 20), (1, 50)])
def test_singular_values_become_about_one_and_singular_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ orthogonal(matrix) @ v.T
    assert values.diagonal().min() > 0.65 and values.diagonal().max() < 1.25
    torch.testing.assert_close(values, values.diagonal().diag(), rtol=0, atol=1e-4)


def test_newton_and_schulzs_steps_are_those_of_the_formula():
    """Each step written out, a X + b X X^T X + c (X X^T)^2 X, in float64."""
    matrix = torch.randn(12, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = matrix / matrix.norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected - 4.775 * gram @ expected + 2.0315 * gram @ gram @ expected
    torch.testing.assert_close(orthogonal(matrix), expected)
    torch.testing.assert_close(orthogonal(matrix.float()), expected.float(), rtol=1e-4, atol=1e-5)


def test_small_singular_values_grow_and_stay_small():
    """As the docstring says: at 0.0015 of the norm they come near 1, below they grow at most 485 times."""
    of_norm = torch.tensor([0.9, 0.4, 0.1, 0.03, 0.0015, 0.001, 0.0001], dtype=torch.float64)
    values = torch.cat([of_norm, (1 - of_norm.square().sum()).sqrt()[None]]).float()
    found = orthogonal(values.diag()).diagonal()
    assert found[[0, 1, 2, 3, 4, 7]].min() > 0.67 and found.max() < 1.21
    assert found[5:7].tolist() == pytest.approx([0.4705, 0.0485], abs=1e-3)


@pytest.mark.parametrize("value", [1e30, math.inf, math.nan])
def test_a_gradient_that_overflows_is_seen_in_the_weights(value):
    """It was divided by an infinite norm: a step of zero, and a training that stood still without a word."""
    layer = nn.Linear(3, 3, bias=False)
    optimizer = Muon(layer.parameters())
    layer.weight.grad = torch.full((3, 3), value)
    optimizer.step()
    assert layer.weight.isnan().all()


def test_gradients_of_zero_move_nothing():
    layer = nn.Linear(3, 3, bias=False)
    before = layer.weight.detach().clone()
    optimizer = Muon(layer.parameters(), weight_decay=0.0)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    assert torch.equal(layer.weight, before)


def test_steps_of_a_matrix_are_as_long_as_adamws_whatever_the_gradient_size():
    """A root mean square of 0.2 lr: what arXiv:2502.16982, eq. 4, matches."""
    for scale in (1e-4, 1e4):
        layer = nn.Linear(64, 64, bias=False)
        before = layer.weight.detach().clone()
        optimizer = Muon(layer.parameters(), lr=0.01, weight_decay=0.0)
        layer.weight.grad = scale * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        assert 0.15 < (layer.weight - before).square().mean().sqrt() / 0.01 < 0.25


def test_what_is_kept_goes_on_exactly():
    """A state dict taken after a step, as a checkpoint holds it, gives the steps of a training that was never stopped."""
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [Muon(network.parameters()) for network in networks]
    gradients(networks[0], 0)
    optimizers[0].step()
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    for network, optimizer in zip(networks, optimizers, strict=True):
        gradients(network, 1)
        optimizer.step()
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)
