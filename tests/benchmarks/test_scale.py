"""Costs on paper, against published counts, sums by hand, and the memory that a forward pass takes."""

import ctypes
from pathlib import Path

import pytest
import torch
from torch import nn

from diffusion_lab.benchmarks.scale import SYSTEMS, Counts, cost, counted


@pytest.mark.ci
@pytest.mark.parametrize(
    ("system", "parameters", "products"),
    [  # DDPM's repository and appendix B; ADM as Karras et al. 2024 (arXiv:2312.02696, table 5) have it; DiT's table 4
        (SYSTEMS[0], 35.7e6, 6.1e9),
        (SYSTEMS[1], 296e6, 110e9),
        (SYSTEMS[2], 675e6, 118.6e9),
    ],
    ids=["ddpm", "adm", "dit"],
)
def test_counts_are_the_published_ones(system, parameters, products):
    counts = counted(system.network, system.arguments, system.shape)
    assert counts.parameters == pytest.approx(parameters, rel=2e-3)
    assert counts.flops / 2 == pytest.approx(products, rel=2e-2)


class Perceptron(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.last = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x, level, label):
        return self.last(self.first(x.flatten(1)).relu())


def test_a_perceptron_keeps_its_inputs():
    counts = counted(Perceptron, {"width": 48}, (3, 4, 4))
    assert counts.parameters == 2 * 4 * 48**2
    assert counts.flops == 2 * counts.parameters
    assert counts.kept == 2 * 48 + 2 * 4 * 48  # the input and what relu makes, in bfloat16


def resident() -> int:
    """Bytes of this process in memory, what was freed given back."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.ci
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="MEMORY NOT MEASURED: there is no /proc")
def test_what_is_kept_is_what_a_forward_pass_takes():
    system, images = SYSTEMS[0], 12
    kept = counted(system.network, system.arguments, system.shape).kept * images
    model = system.network(**system.arguments).to(memory_format=torch.channels_last)
    inputs = (torch.randn(images, *system.shape), torch.rand(images), torch.full((images,), -1))
    with torch.autocast("cpu", torch.bfloat16):
        model(*(part[:1] for part in inputs)).sum().backward()  # what is made once
        model.zero_grad()
        before = resident()
        output = model(*inputs)
        assert output.requires_grad
        assert resident() - before == pytest.approx(kept, rel=0.25)


def test_a_step_by_hand():
    """Four images on each: thrice 12 GFLOP each at 0.3 * 798 TFLOP/s is under the least; 2 GB of gradients travel."""
    found = cost(Counts(500_000_000, 12_000_000_000, 10**9), batch=32, steps=1000, devices=8)
    assert (found.at_once, found.batches) == (4, 1)
    assert found.memory == 20 * 5e8 + 4e9
    assert found.step == pytest.approx(0.01 + 2 * 7 / 8 * 2e9 / 400e9)
    assert found.days == pytest.approx(found.step * 1000 / 86_400)


def test_what_does_not_fit_is_taken_in_parts():
    found = cost(Counts(500_000_000, 12_000_000_000, 10**9), batch=256, steps=1, devices=1)
    assert (found.at_once, found.batches) == (32, 8)  # 128 would take 138 GB, 64 would take 74
