"""`out=DIR` is the folder of what a command makes."""

import pytest
from hydra.core.hydra_config import HydraConfig

from tests.conftest import whole_config


@pytest.mark.parametrize("program", ["train", "evaluate", "sample", "edit", "export", "benchmark", "dashboard"])
def test_every_command_takes_it(program):
    choices = {"edit": ["edit=sdedit"], "export": ["format=web"]}.get(program, [])
    for words, expected in ([], "outputs/"), (["out=some/place"], "some/place"):
        cfg = whole_config(program, *choices, *words)
        HydraConfig.instance().set_config(cfg)
        assert cfg.hydra.run.dir.startswith(expected)
        if program not in ("benchmark", "dashboard"):
            assert cfg.hydra.sweep.dir.startswith(expected)
        assert "some" not in cfg.hydra.job.override_dirname or program not in ("train", "evaluate")
