import os
import subprocess
import sys
import time

import pytest

from diffusion_lab import processor


@pytest.mark.parametrize(("content", "expected"), [("max 100000", 64), ("200000 100000", 2), ("1000 100000", 1), ("", 64)])
def test_a_container_has_the_cores_that_it_pays_for(tmp_path, monkeypatch, content, expected):
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(processor, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert processor.cores() == expected


def test_the_load_of_others_is_noticed_and_our_own_is_not(monkeypatch):
    """On the core that both are bound to."""
    core = {min(os.sched_getaffinity(0))}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: core)
    monkeypatch.setattr(processor, "SAMPLE_S", 0.5)
    spin = f"import os\nos.sched_setaffinity(0, {core})\nprint('on', flush=True)\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        time.sleep(0.1)
        assert processor.busy_cores() > 0.8
    finally:
        other.kill()
        other.wait()
