"""What a training keeps in a checkpoint to go on with, held against what it would keep itself."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diffusion_lab.training.module import Training

KNOWN = ("torch.optim.", "diffusion_lab.")  # a stranger's optimizer may keep other things after more steps


def is_sound(state: dict, module: Training) -> bool:
    """Whether the weights, the optimizer's state and the learning rates in a checkpoint are such as `module` keeps there."""
    weights = ("state_dict", "current_model_state") if module.config["ema"] else ("state_dict",)
    if not all(_is_such(state.get(key), module.state_dict()) for key in weights):
        return False
    optimizer = _stepped(module)
    try:
        (kept,), (schedule,) = state["optimizer_states"], state["lr_schedulers"]
        if not type(optimizer).__module__.startswith(KNOWN):
            return True
        rates = [group["initial_lr"] for group in kept["param_groups"]]
        wanted = _wanted(optimizer.state_dict(), kept, bool(module.lr_scaling))
        return _is_such(kept, wanted) and _is_such(schedule.get("base_lrs", rates), rates)
    except (AttributeError, KeyError, TypeError, ValueError):  # it is not even built as one
        return False


def _stepped(module: Training) -> Optimizer:
    """A new optimizer and its schedule after a step of copies, which fills what is kept of each parameter."""
    copies = [nn.Parameter(torch.zeros_like(each), each.requires_grad) for each in module.parameters()]
    optimizer = module.optimizer(copies)
    module.learning_rate(optimizer, total_steps=100)
    for each in copies:
        each.grad = torch.zeros_like(each) if each.requires_grad else None
    optimizer.step(lambda: torch.zeros(()))
    return optimizer


def _wanted(fresh: dict, kept: dict, scaled: bool) -> dict:
    """A new optimizer's state, with what may differ in another's as it is there: rates, `scaled` by the number of devices
    or not, and for which parameters there never was a gradient."""
    free = ("lr", "initial_lr") if scaled else ("lr",)  # which the schedule sets
    pairs = zip(fresh["param_groups"], kept["param_groups"], strict=True)
    groups = [{**group, **{key: its[key] for key in free}} for group, its in pairs]
    if fresh["state"] and not kept["state"]:
        raise ValueError("nothing is kept")
    return {"state": {each: fresh["state"][each] for each in kept["state"]}, "param_groups": groups}


def _is_such(found: object, wanted: object) -> bool:
    """Whether `found` is built as `wanted`: tensors of the same shape and type, finite where those are; all else equal."""
    if isinstance(wanted, dict):
        same = isinstance(found, dict) and found.keys() == wanted.keys()
        return same and all(_is_such(found[key], each) for key, each in wanted.items())
    if isinstance(wanted, list | tuple):
        same = isinstance(found, list | tuple) and len(found) == len(wanted)
        return same and all(map(_is_such, found, wanted))
    if isinstance(wanted, Tensor):
        same = isinstance(found, Tensor) and _form(found) == _form(wanted)
        same = (
            same and found.untyped_storage().nbytes() >= found.nbytes
        )  # else numbers share a place, and none can be written
        return same and torch.equal(found.isfinite(), wanted.isfinite().cpu())
    return not isinstance(found, Tensor) and bool(found == wanted)


def _form(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.dtype, tensor.layout, tensor.is_meta
