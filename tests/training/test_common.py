"""Two processes draw what one would."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diffusion_lab.training.budget import Budget
from diffusion_lab.training.common import Common
from diffusion_lab.training.module import Training


def module_of(rank, devices, **more):
    module = Training(nn.Identity(), None, None, seed=0, config={}, budget=Budget(epochs=8))
    module._trainer = SimpleNamespace(world_size=devices, global_rank=rank, **more)
    return module


def drawn(rank, devices, images):
    """Two draws for `images` images of this process, with some of its own between."""
    torch.manual_seed(7 + 100 * rank)
    module = module_of(rank, devices)
    module.common = Common(7, torch.device("cpu"))
    first = module.shared(images, torch.rand)
    own = torch.rand(3) if devices > 1 else None
    return first, module.noise_like(torch.zeros(images, 2, 4, 4)), own


def test_the_parts_of_all_processes_are_what_one_draws():
    whole = drawn(0, 1, 12)
    parts = [drawn(rank, 3, 4) for rank in range(3)]
    for each in (0, 1):
        together = torch.stack([part[each] for part in parts], dim=1).flatten(0, 1)  # image i is of process i % 3
        assert torch.equal(together, whole[each])
    assert not torch.equal(parts[0][2], parts[1][2])


def test_what_is_drawn_in_common_leaves_ones_own_stream_alone():
    torch.manual_seed(1)
    expected = torch.rand(5)
    torch.manual_seed(1)
    with Common(2, torch.device("cpu")):
        torch.rand(100)
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize(("before", "now"), [(1, 1), (2, 1), (1, 2), (8, 1), (2, 8)])
def test_the_schedule_goes_on_where_it_was_on_another_number_of_devices(before, now):
    an_epoch, behind = 1600, 3
    counts = {"current_epoch": behind, "global_step": behind * an_epoch // before}
    module = module_of(0, now, estimated_stepping_batches=8 * an_epoch // now, **counts)
    module.devices_before = before
    module.ahead = module._ahead()
    assert module.progress == behind / 8
    assert (module.ahead == 0) == (before == now)
