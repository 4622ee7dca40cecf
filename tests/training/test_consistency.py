"""Consistency tuning against the consistency function of Gaussian data, which has a closed form."""

import math

import pytest
import torch
from torch import nn

from diffusion_lab.denoiser import NetworkDenoiser, Prediction
from diffusion_lab.errors import UserError
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.schedules import Cosine, SingleLevel
from diffusion_lab.process.targets import Image
from diffusion_lab.process.times import stratified
from diffusion_lab.process.weightings import uniform
from diffusion_lab.sampling.samplers import consistency
from diffusion_lab.spaces.pixels import Pixels
from diffusion_lab.training.criteria import Consistency
from diffusion_lab.training.teachers import Data, Teacher
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser

MEAN, STD, CPU = 0.3, 0.6, torch.device("cpu")
SCHEDULE = Cosine(max_signal_rate=0.99)


class PixelNetwork(nn.Module):
    """Sees each pixel alone, and the noise level."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1))

    def forward(self, noisy, level, label=None):
        seen = torch.stack([noisy, level.view(-1, 1, 1, 1).expand_as(noisy)], dim=-1)
        return self.layers(seen)[..., 0]


def exact(noisy, sigma):
    """Where the probability flow of N(MEAN, STD^2) ends that goes through noisy / signal_rate at `sigma`: its distance from
    the mean falls as the standard deviation does, up to the clean end, whose best estimate is the image."""
    end = (1 - 0.99**2) ** 0.5 / 0.99
    return MEAN + STD**2 * (noisy - MEAN) / math.sqrt((STD**2 + end**2) * (STD**2 + sigma**2))


def tuned(teacher, steps=400) -> NetworkDenoiser:
    torch.manual_seed(0)
    student = NetworkDenoiser(PixelNetwork(), SCHEDULE, Image(), signal_power, Pixels(1, 4))
    criterion = Consistency(teacher, uniform, stages=6, c=0.5, sigma_data=STD)
    criterion.check(student)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        image, noise = MEAN + STD * torch.randn(64, 1, 4, 4), torch.randn(64, 1, 4, 4)
        optimizer.zero_grad()
        criterion(student, image, torch.full((64,), -1), noise, stratified(64, CPU), step / steps).backward()
        optimizer.step()
        rate.step()
    return student.eval()


@pytest.fixture(scope="module", params=["data", "teacher"])
def student(request) -> NetworkDenoiser:
    return tuned(Data() if request.param == "data" else Teacher(ideal_denoiser(GaussianNetwork(MEAN, STD), SCHEDULE)))


@torch.no_grad()
@pytest.mark.parametrize("time", [1.0, 0.7, 0.4])
def test_it_comes_to_the_closed_form(student, time):
    """Measured: within 0.08 standard deviations of the data at pure noise, as pairs 1/64 apart let it, and 0.02 in the
    middle. The best denoiser, where the tuning could have stayed, is 0.95 away."""
    torch.manual_seed(1)
    at = torch.full((500,), time)
    signal_rate, noise_rate = (rate[0].item() for rate in SCHEDULE(at))
    noisy = student.noisy(MEAN + STD * torch.randn(500, 1, 4, 4), torch.randn(500, 1, 4, 4), at)
    wanted = exact(noisy / signal_rate, noise_rate / signal_rate)

    def error(estimate):
        return (estimate - wanted).square().mean().sqrt().item() / STD

    assert error(student(noisy, at).image) < 0.12
    assert time < 1 or error(ideal_denoiser(GaussianNetwork(MEAN, STD), SCHEDULE)(noisy, at).image) > 0.9


@torch.no_grad()
@pytest.mark.parametrize(("steps", "tolerance"), [(1, 0.1), (2, 0.06)])
def test_one_call_and_two_draw_the_data(student, steps, tolerance):
    torch.manual_seed(2)
    drawn = consistency(student, torch.randn(4000, 1, 4, 4), steps=steps)
    assert drawn.std().item() == pytest.approx(STD, rel=tolerance)
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.1 * STD)


def test_pairs_come_nearer_in_every_stage_as_published():
    """sigma (1 - (1 + k / (1 + e^(b sigma))) / q^stage), for pixels of deviation 0.5; 0 at least (arXiv:2406.14548)."""
    criterion = Consistency(Data(), uniform, stages=4, sigma_data=0.5)
    sigma = torch.tensor([0.1, 1.0, 10.0])
    for stage, progress in ((1, 0.0), (1, 0.24), (2, 0.25), (4, 0.99)):
        n = [1 + 8 / (1 + math.exp(s)) for s in sigma.tolist()]
        wanted = [max(0.0, s * (1 - each / 2**stage)) for s, each in zip(sigma.tolist(), n, strict=True)]
        for given in (progress, torch.tensor(progress)):
            torch.testing.assert_close(criterion.earlier(sigma, given), torch.tensor(wanted))
    twice = Consistency(Data(), uniform, stages=4, sigma_data=1.0)  # the same pairs of images that are twice as strong
    torch.testing.assert_close(twice.earlier(2 * sigma, 0.8), 2 * criterion.earlier(sigma, 0.8))


class Noted(nn.Module):
    """Notes what it is shown; drops half of it out."""

    def __init__(self):
        super().__init__()
        self.dropout, self.scale, self.seen = nn.Dropout(0.5), nn.Parameter(torch.ones(())), []

    def forward(self, noisy, level, label=None):
        kept = self.dropout(torch.ones_like(noisy))
        self.seen.append((noisy, level, kept, torch.is_grad_enabled()))
        return self.scale * kept


def test_both_images_hold_the_same_noise_and_the_second_call_is_without_gradient():
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(Noted(), SCHEDULE, Image(), signal_power, Pixels(1, 4))
    criterion = Consistency(Data(), uniform, stages=8)
    image, noise, time = torch.randn(9, 1, 4, 4), torch.randn(9, 1, 4, 4), torch.linspace(0.2, 1, 9)
    loss = criterion(denoiser, image, torch.full((9,), -1), noise, time, 0.99)
    (noisy, level, kept, learns), (cleaner, lower, kept_again, learns_again) = denoiser.network.seen
    assert (lower > level).all()  # more signal
    for seen, power in ((noisy, level), (cleaner, lower)):
        rates = power.sqrt().view(-1, 1, 1, 1), (1 - power).sqrt().view(-1, 1, 1, 1)
        torch.testing.assert_close(seen, rates[0] * image + rates[1] * noise, atol=1e-5, rtol=1e-4)
    assert torch.equal(kept, kept_again)
    assert (learns, learns_again) == (True, False)
    assert loss == 0


def test_below_the_clean_end_the_image_is_the_estimate():
    denoiser = NetworkDenoiser(GaussianNetwork(0.0, 1.0), SCHEDULE, Image(), signal_power, Pixels(1, 4))
    image, noise = torch.randn(6, 1, 4, 4), torch.randn(6, 1, 4, 4)
    time = torch.full((6,), 1e-3)
    loss = Consistency(Data(), uniform, per_gap=False, c=0.0)(denoiser, image, None, noise, time)
    estimate = denoiser(denoiser.noisy(image, noise, time), time).image
    torch.testing.assert_close(loss, (estimate - image).flatten(1).norm(dim=1).mean())


def test_one_noise_level_has_no_way_through_the_noise():
    denoiser = ideal_denoiser(GaussianNetwork(0.0, 1.0), SingleLevel())
    with pytest.raises(UserError, match="more than one noise level"):
        Consistency(Data(), uniform).check(denoiser)


def test_whoever_stands_on_the_way_is_told_whose_noise_it_is():
    """A teacher's noise estimate, not the noise that was added, takes the student's image to the earlier time."""
    denoiser = NetworkDenoiser(Noted(), SCHEDULE, Image(), signal_power, Pixels(1, 4))
    image, noise, time = torch.ones(3, 1, 4, 4), torch.zeros(3, 1, 4, 4), torch.full((3,), 0.9)
    taught = Prediction(torch.full((3, 1, 4, 4), 5.0), torch.full((3, 1, 4, 4), 7.0))

    class Says(Data):
        def __call__(self, *_):
            return taught

    Consistency(Says(), uniform)(denoiser, image, None, noise, time, 0.99)
    cleaner, power = denoiser.network.seen[1][:2]
    wanted = power.sqrt().view(-1, 1, 1, 1) * taught.image + (1 - power).sqrt().view(-1, 1, 1, 1) * taught.noise
    torch.testing.assert_close(cleaner, wanted, atol=1e-5, rtol=1e-4)
