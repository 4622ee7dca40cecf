"""Which process of a training this is, and where such processes are refused."""

import json
import os
import time

import pytest
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from torch.multiprocessing import ProcessRaisedException

from diffusion_lab import ranks
from diffusion_lab.commands.checks import check
from diffusion_lab.errors import Diverged, UserError
from tests.conftest import composed

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}
SRUN = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "9", "SLURM_LOCALID": "1"}


@pytest.fixture
def started(monkeypatch):
    """Sets the environment of a process that was started so."""
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    return lambda variables: [monkeypatch.setenv(*each) for each in variables.items()]


def test_a_process_alone_waits_for_nobody(started):
    assert ranks.place() is None and ranks.count() == 1 and ranks.is_first()
    ranks.join()
    with ranks.first_before_others():
        assert ranks.from_first(3) == 3
    assert ranks._waiting is None


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_the_tenth_of_sixteen_processes_on_two_machines(started, variables):
    started(variables)
    assert ranks.place() == ranks.Place(rank=9, count=16, local_rank=1, local_count=8)
    assert not ranks.is_first()


@pytest.mark.parametrize(
    "variables",
    [
        {"TORCHELASTIC_RUN_ID": "none"},
        {**TORCHRUN, "RANK": "x"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "a"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"},
    ],
)
def test_what_a_shell_has_kept_of_others_is_no_place(started, variables):
    started(variables)
    assert ranks.place() is None


def test_a_srun_within_what_torchrun_has_left_is_one(started):
    started({"TORCHELASTIC_RUN_ID": "none", **SRUN})
    assert ranks.place() == ranks.Place(rank=9, count=16, local_rank=1, local_count=8)


def test_a_process_of_srun_is_said_to_lightning_in_torchruns_words(started, monkeypatch):
    """Which srun itself does not know: how many tasks a node, where the first one is."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "GROUP_RANK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    job = {"SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_NODEID": "1"}
    started({**dict.fromkeys(TORCHRUN, ""), **SRUN, **job})
    ranks._say_as_torchrun(ranks.place())
    environment = TorchElasticEnvironment()
    assert (environment.global_rank(), environment.world_size(), environment.local_rank()) == (9, 16, 1)
    assert (environment.main_address, environment.main_port, environment.node_rank()) == ("gpu07", 17341, 1)
    environment.validate_settings(num_devices=8, num_nodes=2)
    assert ranks.place() == ranks.Place(rank=9, count=16, local_rank=1, local_count=8)
    assert ranks.launcher("python") == "srun --ntasks=16 --kill-on-bad-exit=1 python"


@pytest.mark.parametrize("said", ["[gloo] Connection closed by peer [127.0.0.1]:1", "Connection reset by peer"])
def test_that_another_process_has_ended_is_a_line_wherever_it_is_waited_for(said):
    with pytest.raises(UserError, match="another process of this training has ended"), ranks.others_here():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="shapes"), ranks.others_here():
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    ("last", "kind", "message"),
    [
        ("diffusion_lab.errors.Diverged: after step 3: take less", Diverged, "after step 3: take less"),
        ("diffusion_lab.errors.UserError: x.ckpt is no file", UserError, "x.ckpt is no file"),
        ("OSError: [Errno 28] No space left on device", OSError, "No space left"),
        ("ValueError: shapes do not fit", ProcessRaisedException, "shapes"),
        ("os.UserError: is another's", ProcessRaisedException, "another's"),
    ],
)
def test_the_mistake_of_a_process_that_torch_has_started_is_the_same_here(last, kind, message):
    text = f"\n\n-- Process 0 terminated with the following error:\nTraceback (most recent call last):\n  ...\n{last}\n"
    with pytest.raises(kind, match=message), ranks.others_here():
        raise ProcessRaisedException(text, 0, 1)


@pytest.mark.parametrize(
    ("script", "variables", "options", "said"),
    [
        ("train", TORCHRUN, [], "16 processes.*trainer=ddp_cluster"),
        ("train", SRUN, ["trainer=ddp", "trainer.devices=2"], "16 processes.*trainer=ddp_cluster"),
        ("evaluate", SRUN, ["checkpoint=x.ckpt"], "all else wants one"),
        ("train", {}, ["trainer=ddp_cluster"], "torchrun --nproc-per-node=2"),
    ],
)
def test_processes_that_would_stand_in_each_others_way_are_refused(started, script, variables, options, said):
    started(variables)
    with pytest.raises(UserError, match=said):
        check(composed(script, *options))


def test_processes_of_torchrun_train_together(started):
    started(TORCHRUN)
    check(composed("train", "trainer=ddp_cluster"))


def square(number: int) -> int:
    if number < 0:
        raise UserError(f"{number} is negative")
    return number * number


def divide_two_lists(file) -> None:
    """What the second of two processes does in the next test."""
    own = list(ranks.divided(square, range(5)))
    failed = list(ranks.divided(square, [0, 1, 2, -3, 4, 5]))
    ranks.wait()
    file.write_text(json.dumps([own, failed]))


@pytest.mark.ci
def test_two_processes_divide_work_and_the_first_is_given_all_of_it(tmp_path):
    file = tmp_path / "of the second"
    with ranks.helped(2, divide_two_lists, file):
        assert (ranks.place(), ranks.is_first()) == (ranks.Place(0, 2, 0, 2), True)
        with ranks.by_itself():  # though the other is there
            assert (ranks.count(), list(ranks.divided(square, [7]))) == (1, [49])
        assert list(ranks.divided(square, range(5))) == [0, 1, 4, 9, 16]
        found = ranks.divided(square, [0, 1, 2, -3, 4, 5])  # the last but one turn fails, in the second process
        assert [next(found), next(found)] == [0, 1]
        with pytest.raises(UserError, match="-3 is negative"):
            next(found)
        ranks.wait()
    assert json.loads(file.read_text()) == [[None, 1, None, 9, None], [None, 1]]
    assert ranks.place() is None and ranks._waiting is None


def end() -> None:
    os._exit(9)


@pytest.mark.ci
def test_a_helper_that_dies_ends_the_work(tmp_path):
    began = time.monotonic()
    with pytest.raises(UserError, match="another process of this training has ended"), ranks.helped(2, end):
        list(ranks.divided(square, range(5)))
    assert time.monotonic() - began < 60
