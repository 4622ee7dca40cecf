"""benchmark.py as a user types it."""

import json

import pytest

from diffusion_lab.benchmarks.run import benchmark
from tests.conftest import composed
from tests.typed import one_line_error, type_command


@pytest.mark.ci
def test_a_part_is_measured_printed_and_written(tmp_path):
    small = "benchmark.profile.overrides=['network.widths=[8,8]','batch_size=4']"
    result = type_command(tmp_path, "benchmark", "benchmark=profile", small, "rounds=1", "hydra.run.dir=here")
    assert result.returncode == 0, result.stderr
    assert "one training step, unet" in result.stdout
    written = json.loads((tmp_path / "here/benchmark.json").read_text())
    assert written["machine"]["cores"] >= 1
    shown = (tmp_path / "here/benchmark.md").read_text()
    assert all(figure["what"] in shown for figure in written["figures"])


def test_a_part_that_is_not_there_gets_one_line(tmp_path):
    message = one_line_error(type_command(tmp_path, "benchmark", "only=[speed]"))
    assert "there is no part speed, but machine, training" in message
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("typed", ["only=5", "rounds=0", "rounds=x", "seconds=-1", "seconds=nan"])
def test_settings_that_are_none_get_one_line(tmp_path, typed, capsys):
    with pytest.raises(SystemExit):
        benchmark(composed("benchmark", typed), str(tmp_path / "outputs/benchmark/here"))
    assert f"error: {typed.split('=')[0]}=" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
