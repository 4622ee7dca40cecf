import pytest
import torch

from diffusion_lab.training.learning_rates import constant, warmup_cosine


def rates(schedule, total_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler, seen = schedule(optimizer, total_steps=total_steps), []
    for _ in range(total_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_constant_is_constant():
    assert rates(constant, 5) == [2.0] * 5


def test_rises_falls_and_ends_near_nothing():
    seen = rates(warmup_cosine, 200)
    assert seen[:10] == pytest.approx([0.2 * i for i in range(1, 11)])
    assert seen[105] == pytest.approx(1.0, abs=0.02)  # half of the cosine, half of the rate
    assert seen[-1] < 0.001
    assert seen[10:] == sorted(seen[10:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_a_run_of_few_steps_still_learns(steps):
    assert max(rates(warmup_cosine, steps)) == 2.0
