from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import Timer

from diffusion_lab.training.budget import TICKS, Budget


def trainer(step: int, seconds: float = 0.0, budget: Budget | None = None) -> SimpleNamespace:
    callbacks = budget.callbacks() if budget else []
    for callback in callbacks:
        if isinstance(callback, Timer):
            callback.load_state_dict({"time_elapsed": {"train": seconds}})
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(global_step=step, estimated_stepping_batches=40, callbacks=callbacks, strategy=strategy)


@pytest.mark.parametrize(
    ("budget", "step", "seconds", "share", "steps", "text"),
    [
        (Budget(epochs=1), 10, 0, 0.25, 40, "1 epoch"),
        (Budget(epochs=4), 40, 0, 1.0, 40, "4 epochs"),
        (Budget(steps=100), 10, 0, 0.1, 100, "100 steps"),
        (Budget(minutes=2), 10, 30, 0.25, TICKS, "2 min"),
        (Budget(minutes=2), 10, 999, 1.0, TICKS, "2 min"),
        (Budget(steps=100, minutes=2), 90, 30, 0.9, TICKS, "100 steps or 2 min"),
        (Budget(steps=100, minutes=2), 10, 90, 0.75, TICKS, "100 steps or 2 min"),
    ],
)
def test_a_budget_says_how_much_of_it_is_behind(budget, step, seconds, share, steps, text):
    there = trainer(step, seconds, budget)
    assert budget.share_done(there) == pytest.approx(share)
    assert budget.schedule_steps(there) == steps
    assert str(budget) == text
