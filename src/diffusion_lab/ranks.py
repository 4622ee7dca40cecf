"""The processes of one training: which of them this is, how they wait for each other and divide work among them.

torchrun or srun has started them, or this package itself. The first one alone locks, decodes and writes. Needs no torch
where there is one process.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from diffusion_lab.errors import Diverged, StoppedEarly, UserError

TO_MEET = timedelta(minutes=5)
WHILE_ANOTHER_WORKS = timedelta(days=30)  # decodes, draws and scores
SRUN = "srun"  # what stands for torchrun's name of a training

_spawned = None  # the place of a process that this package has started, or has started others from
_waiting = None  # the group through which this process waits and is told; gloo's, so that no GPU spins


@dataclass(frozen=True)
class Place:
    """Of this process among all of them, and among those of its machine; counted from 0."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1


def place() -> Place | None:
    """Where torchrun, srun or this package has put this process; None where none of them has."""
    if _spawned:
        return _spawned
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


def launcher(python: str) -> str:
    """What starts as many processes again, in `python`'s place on a command line."""
    if os.environ.get("TORCHELASTIC_RUN_ID") == SRUN:
        return f"srun --ntasks={count()} --kill-on-bad-exit=1 {python}"
    return f"torchrun --nproc-per-node={count()}"


def join() -> None:
    """Meet the other processes, where there are some; each takes the GPU of its number on its machine."""
    global _waiting
    here = place() or Place()
    if here.count == 1 or _waiting is not None:
        return
    import torch

    if not _of_torchrun():
        _say_as_torchrun(here)
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    torch.distributed.init_process_group(backend, rank=here.rank, world_size=here.count, timeout=TO_MEET)
    _waiting = torch.distributed.new_group(backend="gloo", timeout=WHILE_ANOTHER_WORKS)


def _say_as_torchrun(here: Place) -> None:
    """Let the environment say of a process of srun what torchrun would. Lightning's own reading of SLURM wants
    --ntasks-per-node, and takes a job that srun has not divided for one that it has."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
    os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
    [job, step] = _numbers("SLURM_JOB_ID", "SLURM_STEP_ID") or [0, 0]
    os.environ.setdefault("MASTER_PORT", str(15_000 + (10 * job + step) % 10_000))
    os.environ |= {"TORCHELASTIC_RUN_ID": SRUN, "RANK": f"{here.rank}", "WORLD_SIZE": f"{here.count}"}
    os.environ |= {"LOCAL_RANK": f"{here.local_rank}", "LOCAL_WORLD_SIZE": f"{here.local_count}"}
    os.environ |= {"GROUP_RANK": os.environ.get("SLURM_NODEID", "0")}


def join_spawned(rank: int, count: int) -> None:
    """The same in a process that Lightning has started on this machine, where the others have met already."""
    global _spawned, _waiting
    if count == 1 or _waiting is not None:
        return
    import torch

    _spawned = Place(rank, count, rank, count)
    _waiting = torch.distributed.new_group(backend="gloo", timeout=WHILE_ANOTHER_WORKS)


@contextlib.contextmanager
def helped(count: int, work: Callable, *arguments) -> Iterator[None]:
    """Be the first of so many processes of this machine in here; the others are started, and call `work(*arguments)`."""
    global _spawned, _waiting
    import torch

    with tempfile.TemporaryDirectory() as folder:
        meeting = (count, str(Path(folder, "meeting")), work, arguments)
        helpers = torch.multiprocessing.start_processes(_help, meeting, nprocs=count - 1, join=False, start_method="spawn")
        try:
            _meet(0, *meeting[:2])
            with others_here():
                yield
                helpers.join()
        finally:
            for each in helpers.processes:
                each.kill()
            torch.distributed.destroy_process_group()
            _spawned = _waiting = None


def _help(number: int, count: int, file: str, work: Callable, arguments: tuple) -> None:
    _meet(number + 1, count, file)
    with others_here():
        work(*arguments)


def _meet(rank: int, count: int, file: str) -> None:
    """Meet the others by a file of this machine; each takes the GPU of its number."""
    global _spawned, _waiting
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    _spawned = Place(rank, count, rank, count)
    known = {"init_method": f"file://{file}", "rank": rank, "world_size": count}
    torch.distributed.init_process_group("gloo", **known, timeout=TO_MEET)
    _waiting = torch.distributed.new_group(backend="gloo", timeout=WHILE_ANOTHER_WORKS)


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """What is done in here the first process does alone, without the others that are there."""
    global _spawned, _waiting
    before = _spawned, _waiting
    _spawned, _waiting = Place(), None
    try:
        yield
    finally:
        _spawned, _waiting = before


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


def divided(work: Callable, parts: Iterable) -> Iterator:
    """`map(work, parts)`, shared: the processes, which all call this, work on one part each in turn. The first is given all
    results, in order; the others their own, and None in place of the rest.

    What goes wrong in one of them is raised in the first; the others end here.
    """
    if _waiting is None:
        yield from map(work, parts)
        return
    import torch

    here, parts = place(), iter(parts)
    while turn := list(islice(parts, here.count)):
        mine, error = None, None
        if here.rank < len(turn):
            try:
                mine = work(turn[here.rank])
            except Exception as raised:
                error = raised
        results, failures = ([None] * here.count if is_first() else None), [None] * here.count
        with others_here():
            torch.distributed.all_gather_object(failures, error and _portable(error), group=_waiting)
            if any(failures):
                if not is_first():
                    return
                raise error or next(filter(None, failures))
            torch.distributed.gather_object(mine, results, dst=0, group=_waiting)
        results = results or [mine if rank == here.rank else None for rank in range(here.count)]
        yield from results[: len(turn)]


def _portable(error: Exception) -> Exception:
    """An error that another process can be told of."""
    return error if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def others_here() -> Iterator[None]:
    """What goes wrong in here because another process has ended is a UserError; that of a process that was started from here
    is one here too."""
    try:
        yield
    except Exception as error:
        said = _said_there(error)
        if said:
            raise said from error
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


def _said_there(error: BaseException) -> Exception | None:
    """What of our own errors, or OSError, ended a process that torch has started for this one: torch passes on its text."""
    if type(error).__name__ != "ProcessRaisedException":
        return None
    last = str(error).strip().splitlines()[-1]
    name, _, text = last.partition(": ")
    for kind in (UserError, Diverged, StoppedEarly):
        if name == f"{kind.__module__}.{kind.__name__}":
            return kind(text)
    number = re.match(r"\[Errno (\d+)\] (.*)", text)
    return OSError(int(number[1]), number[2]) if number else None


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
