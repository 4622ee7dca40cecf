"""`out=DIR` is the folder of what a command makes."""

import pytest
from hydra.core.hydra_config import HydraConfig

from tests.conftest import whole_config
from tests.typed import type_command


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


def test_a_persons_own_folder_stays_as_it_is(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("port: 8080\n")
    for words in ["train"], ["train", "-m"]:
        said = type_command(tmp_path, *words, "out=mine", "hydra.sweep.subdir=.")
        assert "config.yaml is not of a run that was made here" in said.stderr + said.stdout, said
        assert (tmp_path / "mine" / "config.yaml").read_text() == "port: 8080\n"
        assert said.returncode != 0
        assert {path.name for path in (tmp_path / "mine").iterdir()} <= {"config.yaml", "multirun.yaml"}
