import pytest
import torch
from lightning.pytorch import LightningModule
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


def test_the_averages_go_where_the_model_is_before_the_first_step():
    averaging, module = ema(0.9), LightningModule()
    module.inner = nn.Linear(2, 2)
    averaging.setup(None, module, "fit")
    module.to("meta")  # as a GPU would be, after Lightning has built them
    averaging.on_train_start(None, module)
    assert {each.device.type for each in averaging._average_model.parameters()} == {"meta"}
    for _ in range(2):  # which fails on a meta device where anything is read back
        averaging._average_model.update_parameters(module)
    assert {each.device.type for each in averaging._average_model.parameters()} == {"meta"}
