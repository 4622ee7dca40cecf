"""A GPU for each process: which one is taken, told by a CUDA that is not there."""

import subprocess
import sys

import pytest
import torch

from diffusion_lab import hardware
from diffusion_lab.hardware import machine, processes

ANOTHER = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
input()
"""


@pytest.fixture
def three_gpus(monkeypatch, tmp_path):
    """Takes a GPU as a new process would: its number, and its lock."""
    chosen, locks = [], []
    monkeypatch.setattr(hardware.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def take() -> tuple[int, hardware.FileLock]:
        monkeypatch.setattr(hardware, "_gpu", None)
        assert machine("auto", "32-true").device == torch.device("cuda")
        machine("auto", "32-true")  # a later job of the same process: it stays
        locks.append(hardware._gpu)
        return chosen[-1], hardware._gpu

    yield take
    for lock in locks:
        lock.release()


def test_jobs_side_by_side_have_a_gpu_each_and_share_them_evenly_where_they_are_more(three_gpus):
    taken = [three_gpus() for _ in range(4)]
    assert [number for number, _ in taken] == [0, 1, 2, 0]
    taken[1][1].release()  # that process has ended
    assert three_gpus()[0] == 1


def test_a_gpu_that_another_process_has_taken_is_left_to_it_until_that_is_killed(three_gpus, tmp_path):
    command = [sys.executable, "-c", ANOTHER, str(tmp_path / "diffusion-lab-gpu-0.0.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as another:
        assert another.stdout.readline() == "held\n"
        assert three_gpus()[0] == 1
        another.kill()
    assert three_gpus()[0] == 0


def test_gpus_are_told_apart_by_what_they_are_and_not_by_their_number_here(three_gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,0")
    assert [three_gpus()[0] for _ in range(2)] == [0, 1]
    assert {file.name for file in tmp_path.iterdir()} == {f"diffusion-lab-gpu-{name}.0.lock" for name in (5, 0)}


def test_processes_that_share_a_training_take_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware.ranks, "count", lambda: 8)
    monkeypatch.setattr(hardware, "take_gpu", lambda: pytest.fail("taken"))
    assert machine("auto", "32-true").device == torch.device("cuda")
    assert processes({"strategy": "ddp", "devices": "auto"}) == 8
