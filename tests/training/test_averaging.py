import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from diffusion_lab.training.averaging import ema


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_average_follows_its_formula_step_by_step(decay):
    model = nn.BatchNorm1d(2)  # weights, and buffers of both kinds
    averaged = AveragedModel(model, use_buffers=True, **ema(decay)._kwargs)
    expected = None
    for n in range(30):
        with torch.no_grad():
            model.weight.normal_()
            model.num_batches_tracked.fill_(n)
        averaged.update_parameters(model)
        keep = min(decay, (1 + n) / (10 + n))
        expected = model.weight.clone() if n == 0 else keep * expected + (1 - keep) * model.weight
    torch.testing.assert_close(averaged.module.weight, expected)
    assert averaged.module.num_batches_tracked == 29
