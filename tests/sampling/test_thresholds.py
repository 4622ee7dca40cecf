import pytest
import torch

from diffusion_lab.process.schedules import Cosine
from diffusion_lab.sampling.samplers import ddim
from diffusion_lab.sampling.thresholds import dynamic, none, static
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


def denoiser_of(mean, std):
    return ideal_denoiser(GaussianNetwork(0, 3), Cosine(), mean=mean, std=std)


def test_static_clips_to_black_and_white():
    denoiser = denoiser_of(0.4, 0.2)
    black, white = -0.4 / 0.2, 0.6 / 0.2
    clipped = static(torch.tensor([-9.0, 0.5, 9.0]).view(1, 1, 1, 3), denoiser)
    torch.testing.assert_close(clipped.flatten(), torch.tensor([black, 0.5, white]))


@pytest.mark.parametrize(("most", "theirs_most"), [(None, 1e9), (1.5, 1.5), (1, 1.0)])
def test_dynamic_is_that_of_diffusers(most, theirs_most):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=theirs_most)
    torch.manual_seed(0)
    image = torch.randn(4, 1, 8, 8) * torch.tensor([0.1, 0.5, 1.0, 3.0]).view(4, 1, 1, 1)
    assert image[3].abs().quantile(0.9) > 2  # beyond the limits
    torch.testing.assert_close(dynamic(image, denoiser_of(0.5, 0.5), 0.9, most), theirs._threshold_sample(image))


def test_none_leaves_images_as_they_are():
    image = torch.randn(2, 1, 2, 2) * 9
    assert none(image, denoiser_of(0.5, 0.5)) is image


@pytest.mark.parametrize("threshold", [static, dynamic])
def test_samplers_keep_images_in_range_and_estimates_tied(threshold):
    torch.manual_seed(0)
    denoiser = denoiser_of(0.5, 0.5)
    ties = []

    def callback(call, noisy, prediction):
        signal_rate, noise_rate = denoiser.rates(torch.tensor([1 - call / 10]))
        ties.append((signal_rate * prediction.image + noise_rate * prediction.noise - noisy).abs().max().item())

    drawn = ddim(denoiser, torch.randn(16, 1, 4, 4), steps=10, threshold=threshold, callback=callback)
    assert drawn.abs().max() <= 1 + 1e-6
    assert ddim(denoiser, torch.randn(16, 1, 4, 4), steps=10).abs().max() > 1.5
    assert max(ties) < 1e-4
