import math

import pytest
import torch

from diffusion_lab.process import levels
from tests.process.test_schedules import SCHEDULES, name

SIX, EIGHT = torch.tensor([0.6]), torch.tensor([0.8])


def test_powers_are_those_the_reference_shows():
    assert levels.noise_power(None, SIX, EIGHT).item() == pytest.approx(0.64)
    assert levels.signal_power(None, SIX, EIGHT).item() == pytest.approx(0.36)


def test_log_sigma_is_edms_c_noise():
    assert levels.log_sigma(None, torch.ones(1), torch.tensor([80.0])).item() == pytest.approx(math.log(80) / 4)


def test_log_snr_runs_from_0_to_1_between_plus_and_minus_15():
    rates = torch.tensor([math.exp(7.5), 1.0, math.exp(-7.5)]), torch.ones(3)
    assert levels.log_snr(None, *rates).tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("level", [levels.time, levels.noise_power, levels.signal_power, levels.log_snr, levels.log_sigma])
def test_every_level_tells_noisier_from_cleaner_within_what_embeddings_are_made_for(schedule, level):
    time = torch.linspace(0, 1, 11)
    shown = level(time, *schedule(time))
    assert shown.shape == (11,)
    assert shown[0] != shown[-1]
    assert shown.abs().max() < 2.5
