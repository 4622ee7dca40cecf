"""What a checkpoint keeps of a training is gone on with only where that training would keep the same."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from diffusion_lab.training.kept import is_sound
from diffusion_lab.training.learning_rates import constant
from diffusion_lab.training.module import Training
from diffusion_lab.training.optimizers import Muon

OPTIMIZERS = {
    "muon": Muon,
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def training(optimizer, **options) -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3))
    model[1].bias.requires_grad_(False)
    return Training(model, partial(optimizer, lr=0.01), constant, seed=0, config={"ema": {"decay": 0.9}}, **options)


def after_steps(module: Training, unused: nn.Parameter | None = None) -> dict:
    """What a checkpoint holds after three steps; nothing is asked of `unused`."""
    optimizer = module.optimizer(module.parameters())
    schedule = module.learning_rate(optimizer, total_steps=3)
    for _ in range(3):
        for each in module.parameters():
            each.grad = torch.randn_like(each) if each.requires_grad and each is not unused else None
        optimizer.step()
        schedule.step()
    weights = deepcopy(module.state_dict())
    kept = {"optimizer_states": [deepcopy(optimizer.state_dict())], "lr_schedulers": [schedule.state_dict()]}
    return {"state_dict": weights, "current_model_state": deepcopy(weights), **kept}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("lr_scaling", [None, "linear"])
def test_what_was_kept_is_sound_and_checking_it_changes_nothing(optimizer, lr_scaling):
    module = training(optimizer, lr_scaling=lr_scaling)
    state = after_steps(module)
    for group in state["optimizer_states"][0]["param_groups"] if lr_scaling else ():  # on two devices
        group["initial_lr"] *= 2
    state["lr_schedulers"][0]["base_lrs"] = [group["initial_lr"] for group in state["optimizer_states"][0]["param_groups"]]
    before = deepcopy((state, module.state_dict()))
    assert is_sound(state, module)
    torch.testing.assert_close((state, module.state_dict()), before, rtol=0, atol=0)
    assert is_sound(after_steps(module, unused=module.model[2].weight), module)
    assert not is_sound({**state, "optimizer_states": state["optimizer_states"] * 2}, module)


def test_what_an_optimizer_of_another_package_keeps_is_its_own_matter():
    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            self.param_groups[0]["count"] = self.param_groups[0].get("count", 0) + 1
            return super().step(closure)

    module = training(Counting)
    assert is_sound(after_steps(module), module)


WEIGHT = torch.zeros(4, 2, 3, 3)
DAMAGES = {  # a place in what is kept, and what stands there; None: nothing
    "no buffer": ("optimizer_states/0/state/0/momentum_buffer", None),
    "another shape": ("optimizer_states/0/state/0/momentum_buffer", torch.zeros(4, 2, 3)),
    "a number": ("optimizer_states/0/state/0/momentum_buffer", 0.0),
    "one that spreads": ("optimizer_states/0/state/0/momentum_buffer", torch.zeros(1)),
    "shared places": ("optimizer_states/0/state/0/momentum_buffer", torch.zeros(1).expand(4, 2, 3, 3)),
    "no data": ("optimizer_states/0/state/0/momentum_buffer", WEIGHT.to("meta")),
    "whole numbers": ("optimizer_states/0/state/0/momentum_buffer", WEIGHT.int()),
    "double": ("optimizer_states/0/state/0/momentum_buffer", WEIGHT.double()),
    "complex": ("optimizer_states/0/state/0/momentum_buffer", WEIGHT.cfloat()),
    "sparse": ("optimizer_states/0/state/0/momentum_buffer", WEIGHT.to_sparse()),
    "not finite": ("optimizer_states/0/state/0/momentum_buffer", WEIGHT / 0),
    "no step": ("optimizer_states/0/state/0/step", None),
    "no state": ("optimizer_states/0/state", {}),
    "state a word": ("optimizer_states/0/state", "x"),
    "another parameter": ("optimizer_states/0/state/9", {"step": torch.zeros(())}),
    "all a word": ("optimizer_states/0", "x"),
    "nothing at all": ("optimizer_states", []),
    "another momentum": ("optimizer_states/0/param_groups/0/momentum", 5),
    "no momentum": ("optimizer_states/0/param_groups/0/momentum", None),
    "uphill": ("optimizer_states/0/param_groups/0/maximize", True),
    "other parameters": ("optimizer_states/0/param_groups/0/params", [1, 0]),
    "one group": ("optimizer_states/0/param_groups/1", None),
    "another rate": ("optimizer_states/0/param_groups/0/initial_lr", 1e8),
    "the schedule's rates": ("lr_schedulers/0/base_lrs", [1e8, 1e8]),
    "no schedules": ("lr_schedulers", None),
    "none of them": ("lr_schedulers", []),
    "a schedule's word": ("lr_schedulers/0", "x"),
    "weights of another shape": ("current_model_state/model.0.weight", torch.zeros(2)),
    "no weights but averages": ("current_model_state", None),
    "averages that lack one": ("state_dict/model.0.weight", None),
}


@pytest.mark.parametrize(("place", "value"), DAMAGES.values(), ids=DAMAGES)
def test_what_a_training_would_not_keep_is_not_sound(place, value):
    module = training(Muon)
    state = after_steps(module)
    *above, last = [int(key) if key.isdigit() else key for key in place.split("/")]
    node = state
    for key in above:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    assert not is_sound(state, module)
