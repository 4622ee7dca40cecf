"""A job in a folder of its own."""

import pytest
from omegaconf import OmegaConf

from diffusion_lab.commands.job import attempt
from diffusion_lab.experiments.runs import Run


@pytest.mark.parametrize("is_multirun", [False, True])
def test_a_kill_before_a_run_begins_leaves_no_folder(is_multirun, tmp_path):
    """As while images are decoded: of the folder that Hydra has made nothing is there by then, not even after signal 9."""
    run, seen = Run(tmp_path / "name/run"), []
    run.folder.mkdir(parents=True)

    def work(cfg, run) -> dict:
        seen.append(run.folder.exists())
        run.begin({"epochs": 1})
        return {}

    attempt(work, lambda cfg: {}, OmegaConf.create({"objective": "kid"}), run, is_multirun)
    assert seen == [False]
    assert run.config() == {"epochs": 1}
