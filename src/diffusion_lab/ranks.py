"""The processes that torchrun or srun has started for one training: which of them this is, and how they wait for each other.

The first one alone locks, decodes, writes and scores. Needs no torch where there is one process.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from diffusion_lab.errors import UserError

TO_MEET = timedelta(minutes=5)
WHILE_ANOTHER_WORKS = timedelta(days=30)  # decodes, draws and scores

_waiting = None  # the group through which this process waits and is told; gloo's, so that no GPU spins


@dataclass(frozen=True)
class Place:
    """Of this process among all of them, and among those of its machine; counted from 0."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1


def place() -> Place | None:
    """Where torchrun or srun has put this process; None where neither has started it."""
    torchrun = _of_torchrun()
    if torchrun:
        return Place(*torchrun)
    srun = _numbers("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    if not srun:
        return None
    [machines] = _numbers("SLURM_STEP_NUM_NODES") or [1]
    return Place(*srun, srun[1] // max(1, machines))


def _of_torchrun() -> list[int]:
    return _numbers("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else []


def _numbers(*names: str) -> list[int]:
    """What these variables of the environment have; none where one has no number: a shell may have kept some of them."""
    values = [os.environ.get(name, "") for name in names]
    return [int(value) for value in values] if all(value.isdecimal() for value in values) else []


def count() -> int:
    return (place() or Place()).count


def is_first() -> bool:
    """Whether this process is the one that locks, writes and scores."""
    return (place() or Place()).rank == 0


def join() -> None:
    """Meet the other processes, where there are some; each takes the GPU of its number on its machine."""
    global _waiting
    here = place() or Place()
    if here.count == 1 or _waiting is not None:
        return
    import torch
    from lightning.fabric.plugins.environments import SLURMEnvironment

    if not _of_torchrun():
        slurm = SLURMEnvironment()
        os.environ |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    torch.distributed.init_process_group(backend, rank=here.rank, world_size=here.count, timeout=TO_MEET)
    _waiting = torch.distributed.new_group(backend="gloo", timeout=WHILE_ANOTHER_WORKS)


def from_first(value=None):
    """What the first process calls this with, in all of them."""
    if _waiting is None:
        return value
    import torch

    box = [value]
    with others_here():
        torch.distributed.broadcast_object_list(box, src=0, group=_waiting, device=torch.device("cpu"))
    return box[0]


def wait() -> None:
    """Until all are here."""
    if _waiting is not None:
        import torch

        with others_here():
            torch.distributed.barrier(_waiting)


@contextlib.contextmanager
def others_here() -> Iterator[None]:
    """What goes wrong in here because another process has ended is a UserError."""
    try:
        yield
    except Exception as error:
        if not _lost(error):
            raise
        raise UserError(
            "another process of this training has ended, which no process goes on without: see what it said; type the same "
            "command again to go on from the last checkpoint"
        ) from error


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """The first process does what is in here, and the others after it, who find what it has left on the disk."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def _lost(error: BaseException) -> bool:
    """Whether an error says that another process of the training is gone."""
    said = f"{type(error).__name__}: {error}"
    signs = (
        "Connection closed by peer",
        "Connection reset by peer",
        "DistNetworkError",
        "DistBackendError",
        "ProcessExited",
    )
    return any(sign in said for sign in signs)
