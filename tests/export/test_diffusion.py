"""The page's JavaScript against our Python: the same noise by seed, the same schedules, samplers and edits."""

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.export.web import PAGE, described, table_of
from diffusion_lab.parts import build
from diffusion_lab.process import schedules
from diffusion_lab.process.discrete import Discrete, linear
from diffusion_lab.process.learned import Learned
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.sampling import edits, samplers, thresholds, times
from diffusion_lab.spaces.pixels import Symmetric
from tests.conftest import composed

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="THE PAGE'S SAMPLERS ARE NOT TESTED: there is no node")
SHAPE = (1, 6, 6)
SEED = 2**40 + 3
INDICES = [0, 5, 70_000]
SCHEDULES = {
    "cosine": schedules.Cosine(),
    "linear": schedules.Linear(),
    "sigmoid": schedules.Sigmoid(),
    "edm": schedules.Edm(),
    "flow": schedules.Flow(),
    "ddpm": Discrete(linear()),
    "shifted": schedules.Shifted(schedules.Cosine(), 32),
}
TIMES = {
    "trailing": partial(times.trailing),
    "uniform": partial(times.uniform),
    "quadratic": partial(times.quadratic),
    "karras": partial(times.karras, rho=3.0),
    "log_snr": partial(times.log_snr_uniform),
}
WAYS = {
    "ddim": partial(samplers.ddim, steps=7),
    "ddim, eta": partial(samplers.ddim, steps=7, eta=0.6),
    "ddpm": partial(samplers.ddpm, steps=6),
    "ddpm, large, clipped": partial(samplers.ddpm, steps=6, variance="large", threshold=partial(thresholds.static)),
    "repaint": partial(samplers.ddpm, steps=20, resamples=3, jump=2),
    "order 1": partial(samplers.dpm_solver, steps=6, order=1),
    "dpmpp_2m": partial(samplers.dpm_solver, steps=8),
    "dpmpp_2m_eta": partial(samplers.dpm_solver, steps=4, eta=0.3),
    "dpmpp_3m, eta 1": partial(samplers.dpm_solver, steps=9, order=3, eta=1.0),
}
COMBINED = [  # every schedule, every spacing, every sampler
    *((schedule, "karras", "dpmpp_2m_eta") for schedule in SCHEDULES),
    *(("cosine", spacing, "ddim, eta") for spacing in TIMES),
    *((schedule, "trailing", way) for schedule in ("linear", "ddpm") for way in WAYS),
]
IMAGE = torch.linspace(-1, 1, 36).view(SHAPE)
UNKNOWN = torch.zeros(6, 6, dtype=torch.bool)
UNKNOWN[1:4, 2:5] = True


class Wave(Denoiser):
    """A smooth estimate that depends on the time; also in run_diffusion.mjs."""

    def __init__(self, schedule):
        super().__init__(schedule, Symmetric(1, 6))

    def forward(self, noisy, time, label=None):
        signal_rate, _ = self.rates(time)
        return self.of_image(signal_rate * torch.sin(0.7 * noisy + time.view(-1, 1, 1, 1)) + 0.1 * noisy, noisy, time)


def spaced(way: str, spacing: str) -> partial:
    return partial(WAYS[way], times=TIMES[spacing])


def noise(drawing: int) -> torch.Tensor:
    return noise_of_images(SEED, INDICES, SHAPE, drawing)


@pytest.fixture(scope="module")
def theirs():
    """theirs[case]: what the page's JavaScript gives; all cases at once, for node is slow to start."""
    cases = {("noise", drawing): {"what": "noise", "drawing": drawing} for drawing in (0, 7, edits.EXTRA)}
    cases["slerp"] = {"what": "slerp", "share": 0.3}
    for name, schedule in SCHEDULES.items():
        cases["rates", name] = {"what": "rates", "schedule": table_of(schedule), "times": PLACES.tolist()}
    for schedule, spacing, way in COMBINED:
        node = {"schedule": table_of(SCHEDULES[schedule]), "way": described(spaced(way, spacing))}
        cases[schedule, spacing, way] = {"what": "draw", **node}
    node = {"schedule": table_of(SCHEDULES["cosine"])}
    way = described(spaced("dpmpp_2m_eta", "karras"))
    cases["sdedit"] = {"what": "sdedit", "strength": 0.55, "way": way, **node}
    cases["inpaint"] = {"what": "inpaint", "way": described(spaced("repaint", "trailing")), **node}
    given = {"size": 36, "seed": SEED, "indices": INDICES, "cases": list(cases.values())}
    given |= {"image": IMAGE.flatten().tolist(), "unknown": UNKNOWN.flatten().int().tolist()}
    command = ["node", str(Path(__file__).with_name("run_diffusion.mjs")), str(PAGE / "diffusion.js")]
    result = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return dict(zip(cases, map(torch.tensor, json.loads(result.stdout)), strict=True))


PLACES = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("drawing", [0, 7, edits.EXTRA])
def test_an_images_noise_is_that_of_its_seed(theirs, drawing):
    torch.testing.assert_close(theirs["noise", drawing], noise(drawing).flatten(), atol=2e-6, rtol=0)


def test_between_two_noises(theirs):
    ours = torch.cat([edits.slerp(a[None], b[None], 0.3).flatten() for a, b in zip(noise(0), noise(1), strict=True)])
    assert theirs["slerp"].shape == ours.shape
    first, second = noise(0).flatten(), noise(1).flatten()  # the page does one pair at a time: here all are one
    ours = edits.slerp(first.view(1, 1, 1, -1), second.view(1, 1, 1, -1), 0.3).flatten()
    torch.testing.assert_close(theirs["slerp"], ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_between_a_tables_points(theirs, name):
    signal, noise_rate = SCHEDULES[name](PLACES)
    given = theirs["rates", name].double().view(-1, 2)
    torch.testing.assert_close(given, torch.stack([signal, noise_rate], 1), atol=1e-7, rtol=2e-5)


@pytest.mark.parametrize(("schedule", "spacing", "way"), COMBINED)
def test_samplers_draw_the_same_images(theirs, schedule, spacing, way):
    drawn = spaced(way, spacing)(Wave(SCHEDULES[schedule]), noise(0), fresh_noise=lambda call: noise(call + 1))
    torch.testing.assert_close(theirs[schedule, spacing, way], drawn.flatten(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "way", "edit"),
    [
        ("sdedit", spaced("dpmpp_2m_eta", "karras"), partial(edits.sdedit, strengths=[0.55])),
        ("inpaint", spaced("repaint", "trailing"), partial(edits.inpaint, box=[2, 1, 5, 4])),
    ],
)
def test_edits_make_the_same_images(theirs, name, way, edit):
    images = IMAGE.expand(3, -1, -1, -1)
    given = edits.Given(
        Wave(SCHEDULES["cosine"]), partial(way, fresh_noise=lambda call: noise(call + 1)), images, None, noise
    )
    made = list(edit(given).columns.values())[-1]
    assert (made != images).any()
    torch.testing.assert_close(theirs[name], made.flatten(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("schedule", [schedules.LinearClipped(), Learned()])
def test_a_schedule_that_no_table_follows_is_refused(schedule):
    if isinstance(schedule, Learned):
        torch.nn.init.normal_(schedule.logits, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="is neither smooth nor one of DDPM's steps"):
        table_of(schedule)


def test_samplers_that_the_page_has_not_are_not_offered():
    assert described(partial(samplers.heun, steps=5, times=TIMES["karras"])) is None
    assert described(partial(samplers.ddpm, variance="learned", times=TIMES["trailing"])) is None
    assert described(partial(samplers.ddim, times=TIMES["trailing"], threshold=partial(thresholds.dynamic))) is None
    cfg = composed("export", "format=web", "checkpoint=x").format
    offered = {name: described(build(node, "sampler")) for name, node in cfg.samplers.items()}
    assert all(offered.values())
    assert offered["dpmpp_2m"] == {
        "sampler": "dpm_solver",
        "steps": 20,
        "order": 2,
        "eta": 0.0,
        "times": {"name": "karras", "rho": 3.0},
        "threshold": None,
    }
