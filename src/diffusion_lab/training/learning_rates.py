"""Learning rates over a run: functions of (optimizer, total_steps) to a torch scheduler, stepped each batch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

SCALING = {"linear": float, "sqrt": math.sqrt}  # of a rate by how many times larger a step's batch is


def constant(optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> LambdaLR:
    """The optimizer's rate, reached linearly over the first `warmup` of all steps."""
    rising = max(1, round(warmup * total_steps))
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / rising))


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05) -> LambdaLR:
    """Up linearly over the first `warmup` of all steps, then down to 0 along half a cosine (arXiv:1608.03983, eq. 5)."""
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, total_steps - rising)))) / 2

    return LambdaLR(optimizer, factor)


def put_at(scheduler: LambdaLR, step: int) -> bool:
    """Set the rates to what the schedule has at `step`, and let it go on from there; returns whether that changed any."""
    rates = [base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    before = [group["lr"] for group in scheduler.optimizer.param_groups]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler.last_epoch, scheduler._last_lr = step, rates
    return rates != before
