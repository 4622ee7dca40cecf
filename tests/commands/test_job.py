"""A job in a folder of its own."""

import pytest
from omegaconf import OmegaConf

from diffusion_lab.commands.job import alone, attempt
from diffusion_lab.errors import Diverged, StoppedEarly
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


@pytest.mark.parametrize(("end", "status"), [(Diverged, "failed"), (StoppedEarly, "stopped early")])
@pytest.mark.parametrize("begins", [True, False])
def test_why_a_run_came_to_nothing_is_noted_where_it_had_begun(begins, end, status, tmp_path):
    run, config = Run(tmp_path / "run"), {"epochs": None, "steps": 5}
    with pytest.raises(end), alone(run, config):
        if begins:
            run.begin(config)
        raise end("after step 3")
    assert [run.results().get(key) for key in ("status", "error")] == ([status, "after step 3"] if begins else [None, None])
