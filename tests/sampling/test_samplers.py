"""The sampler against closed forms."""

import pytest
import torch

from diffusion_lab.process.schedules import Cosine, Linear, LinearClipped
from diffusion_lab.sampling.samplers import ddim
from tests.sampling.ideal import GaussianNetwork, IdealNetwork, ideal_denoiser

SCHEDULES = [Cosine(), Linear(), LinearClipped()]
EXACT = "donot_use_mm_for_euclid_dist"


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_one_image_is_recovered_exactly(schedule, steps, eta):
    image = torch.randn(1, 1, 4, 4)
    drawn = ddim(ideal_denoiser(IdealNetwork(image), schedule), torch.randn(5, 1, 4, 4), steps=steps, eta=eta)
    torch.testing.assert_close(drawn, image.expand(5, -1, -1, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_a_small_data_set_is_brought_back(schedule):
    torch.manual_seed(0)
    images = torch.randn(16, 1, 4, 4)
    drawn = ddim(ideal_denoiser(IdealNetwork(images), schedule), torch.randn(64, 1, 4, 4), steps=200)
    distance, nearest = torch.cdist(drawn.flatten(1), images.flatten(1), compute_mode=EXACT).min(1)
    assert distance.max() < 1e-3
    assert len(nearest.unique()) > 8  # not one image for all


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_gaussian_data_gives_its_mean_and_standard_deviation(eta):
    torch.manual_seed(0)
    denoiser = ideal_denoiser(GaussianNetwork(mean=1.5, std=0.5), Cosine(0.99999, 1e-3))
    drawn = ddim(denoiser, torch.randn(50_000, 1, 1, 1), steps=200, eta=eta)
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.5, rel=0.02)


def test_ancestral_steps_are_ddpms_posterior():
    """eta = 1 between neighbouring times draws from q(x' | x, image), whose variance DDPM gives (eq. 7)."""
    schedule, image = Cosine(), torch.zeros(1, 1, 1, 1)
    states = []
    torch.manual_seed(0)
    denoiser = ideal_denoiser(IdealNetwork(image), schedule)
    start = torch.full((100_000, 1, 1, 1), 0.8)
    ddim(denoiser, start, steps=2, eta=1.0, callback=lambda step, noisy, prediction: states.append(noisy))
    (signal, signal_next), (noise, noise_next) = schedule(torch.tensor([1.0, 0.5]))
    beta = 1 - (signal / signal_next) ** 2
    assert states[1].var().item() == pytest.approx((noise_next**2 / noise**2 * beta).item(), rel=0.02)
    mean = (signal / signal_next) * noise_next**2 / noise**2 * 0.8  # DDPM's posterior mean with x_0 = 0
    assert states[1].mean().item() == pytest.approx(mean.item(), abs=0.01)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_a_step_is_a_network_call_at_evenly_spaced_times(steps):
    denoiser = ideal_denoiser(GaussianNetwork(0, 1), Cosine())
    times = []
    denoiser.register_forward_hook(lambda module, inputs, output: times.append(inputs[1][0].item()))
    ddim(denoiser, torch.randn(2, 1, 4, 4), steps=steps)
    assert times == pytest.approx([1 - i / steps for i in range(steps)])
