"""Learning rates over a run: functions of (optimizer, total_steps) to a torch scheduler, stepped each batch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


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
