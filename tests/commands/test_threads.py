import os
from types import SimpleNamespace

import pytest
import torch

from diffusion_lab import processor
from diffusion_lab.commands import threads

NOBODY = (None, None)


@pytest.mark.parametrize(
    ("said", "busy", "expected"),
    [
        (NOBODY, 0.1, 8),
        (NOBODY, 5.6, 2),
        (NOBODY, 8.0, 1),
        ((3, None), 8.0, 3),
        ((3, "5"), 8.0, 3),
        ((None, "5"), 8.0, None),
    ],
)
def test_threads_are_as_many_as_free_cores_unless_somebody_says_so(monkeypatch, caplog, said, busy, expected):
    requested, environment = said
    caplog.set_level("INFO", "diffusion_lab")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    monkeypatch.setattr(processor, "cores", lambda: 8)
    monkeypatch.setattr(processor, "busy_cores", lambda: busy)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    threads.settle(requested)
    assert chosen == ([expected] if expected else [])
    noticed = f"others keep {busy:.1f} of 8 cores busy: threads={expected}" in caplog.text
    assert noticed == (said == NOBODY and busy > 0.5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [(None, ("PASSIVE", threads.GLANCES)), ("ACTIVE", ("ACTIVE", None)), ("PASSIVE", ("PASSIVE", None))],
)
def test_threads_that_wait_sleep_soon_unless_somebody_says_how_they_wait(monkeypatch, said, expected):
    settings = {"OMP_WAIT_POLICY": said} if said else {}
    monkeypatch.setattr(os, "environ", settings)
    monkeypatch.setattr(threads, "sys", SimpleNamespace(modules={}))  # as before torch is imported
    monkeypatch.setattr(processor, "cores", lambda: 8)
    monkeypatch.setattr(processor, "busy_cores", lambda: 2.0)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    threads.settle(None)
    assert (settings["OMP_WAIT_POLICY"], settings.get("GOMP_SPINCOUNT")) == expected
