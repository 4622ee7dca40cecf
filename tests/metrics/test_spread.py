import pytest
import torch

from diffusion_lab.metrics.scoring import measure
from diffusion_lab.metrics.spread import alarms, spread
from diffusion_lab.process.schedules import Cosine
from tests.metrics.scorings import scoring_of
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser

REAL = torch.randint(0, 256, (40, 3, 6, 5), generator=torch.manual_seed(0)).to(torch.uint8)
BLANK = {
    "black": torch.zeros_like(REAL),
    "nearly black": REAL // 16,
    "flat, of many colours": REAL[:, :, :1, :1].expand_as(REAL),
    "one image": REAL[:1].expand_as(REAL),
    "noise around one image": (REAL[:1].int() + REAL // 8).clamp(max=255).to(torch.uint8),
}


def test_the_spread_is_the_deviation_over_images_without_their_means():
    values = REAL.double() / 255
    expected = (values - values.mean((2, 3), keepdim=True)).var(0, correction=0).mean().sqrt()
    assert spread(REAL.split(7)) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("drawn", BLANK.values(), ids=BLANK)
def test_blank_images_and_one_image_over_again_raise_an_alarm(drawn):
    [said] = alarms(results_of(drawn))
    assert said.startswith("alike: the 40 drawn images are blank or all the same")


@pytest.mark.parametrize("drawn", [REAL, REAL // 2, REAL.flip(0), 255 - REAL])
def test_others_do_not(drawn):
    assert not list(alarms(results_of(drawn)))


def test_a_few_images_prove_nothing():
    assert not list(alarms({**results_of(torch.zeros_like(REAL)), "samples": 4}))
    assert not list(alarms({"kid": 0.1}))


def results_of(drawn: torch.Tensor) -> dict:
    scoring = scoring_of(ideal_denoiser(GaussianNetwork(0.0, 1.0), Cosine()), REAL)
    scoring.generated, scoring.network_calls = drawn, 1
    return measure(scoring, {})
