"""Averaged weights, by Lightning's callback: sampled, scored and saved in place of the last ones."""

from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def ema(decay: float) -> WeightAveraging:
    """Exponential moving average of the weights after every step, with a warm-up so that short runs profit too.

    After n updates the average keeps min(decay, (1 + n) / (10 + n)) of itself, so it forgets the initial weights soon.

    Args:
        decay: what the average keeps of itself at each step, once warm; in [0, 1).
    """
    return OnDevice(multi_avg_fn=partial(update, decay=decay))


class OnDevice(WeightAveraging):
    """With the averages where the weights are. Lightning builds them before it moves the model to a GPU, and each step would
    copy all weights to the host."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        count = self._average_model.n_averaged  # stays on the host, which asks at each step whether it is 0
        self._average_model.to(module.device).n_averaged = count.cpu()


def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor, decay: float) -> None:
    """Move the averages of all tensors of one device and dtype, after `updates` earlier moves, in a few kernels."""
    if not averaged[0].is_floating_point():  # counters
        torch._foreach_copy_(averaged, current)
        return
    weight = 1 - ((1 + updates) / (10 + updates)).clamp(max=decay)  # a tensor: no wait for the device
    change = torch._foreach_sub(current, averaged)
    torch._foreach_mul_(change, weight)
    torch._foreach_add_(averaged, change)
