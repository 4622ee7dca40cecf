"""Edits with denoisers of closed form; the conditions that they put around a denoiser are in test_conditions.py."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import avg_pool2d

from diffusion_lab.errors import UserError
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.sampling import edits
from diffusion_lab.sampling.edits import Given, slerp
from diffusion_lab.sampling.samplers import ddim, ddpm, dpm_solver
from diffusion_lab.sampling.times import trailing
from diffusion_lab.sampling.views import rotate
from tests.sampling.ideal import GaussianNetwork, IdealNetwork, LabelledNetwork, ideal_denoiser

SCHEDULE = Cosine(0.9999, 0.02)
MEAN, STD = 0.4, 0.25


def given(count: int = 2, size: int = 8, sampler=ddim) -> Given:
    """Images of pixels from 0 to 1, all of them known to the denoiser; label i is image i alone."""
    torch.manual_seed(0)
    images = (torch.rand(4, 1, size, size) - MEAN) / STD
    network = LabelledNetwork(*(IdealNetwork(image[None]) for image in images), IdealNetwork(images))
    denoiser = ideal_denoiser(network, SCHEDULE, size, MEAN, STD, classes=4)
    noises = torch.randn(2000, count, 1, size, size)
    sampler = partial(sampler, steps=20, fresh_noise=lambda call: noises[call + 1])
    return Given(denoiser, sampler, images[:count], torch.full((count,), -1), lambda drawing: noises[drawing % 2000])


def test_noise_is_the_forward_process():
    each = given()
    columns = edits.noise(each, [0.3, 1.0]).columns
    signal_rate, noise_rate = SCHEDULE(torch.tensor(0.3))
    assert list(columns) == ["input", "t = 0.3", "t = 1"]
    torch.testing.assert_close(columns["t = 0.3"], signal_rate * each.images + noise_rate * each.noise(0))


def test_the_best_blur_is_found_and_fails():
    each = given(size=28)
    smooth = torch.from_numpy(gaussian_filter(each.images.numpy(), (0, 0, 2, 2))) * 4
    each = each._replace(images=smooth)
    edited = edits.denoise_blur(each, [0.3])
    signal_rate, noise_rate = SCHEDULE(torch.tensor(0.3))
    noisy = (smooth + noise_rate / signal_rate * each.noise(0))[:, 0].numpy()
    pixels = (smooth[:, 0].numpy() * STD + MEAN).clip(0, 1)
    for image, clean, found in zip(noisy, pixels, edited.figures["PSNR at t = 0.3 (dB)"], strict=True):
        tried = [gaussian_filter(image, sigma, mode="mirror") * STD + MEAN for sigma in np.linspace(0.3, 3.5, 60)]
        best = max(-10 * np.log10(np.mean((each.clip(0, 1) - clean) ** 2)) for each in tried)
        assert found == pytest.approx(best, abs=0.15)
        assert found > -10 * np.log10(np.mean(((image * STD + MEAN).clip(0, 1) - clean) ** 2)) + 1  # better than nothing


@pytest.mark.parametrize("sampler", [ddim, ddpm, dpm_solver])
def test_what_is_known_is_denoised_to_itself(sampler):
    each = given(sampler=sampler)
    for edited in (edits.denoise(each, [0.2, 0.4]), edits.denoise_once(each, [0.2])):
        torch.testing.assert_close(edited.columns[list(edited.columns)[-1]], each.images, atol=0.01, rtol=0)
        assert all(values.min() > 40 for values in edited.figures.values())


@pytest.mark.parametrize("sampler", [ddim, ddpm, dpm_solver])
def test_sdedit_keeps_the_input_at_low_strength_and_forgets_it_at_full(sampler):
    each = given(sampler=sampler)
    foreign = each.images + 0.3 * torch.randn_like(each.images)  # each nearest to an image that is known
    _, low, full = edits.sdedit(each._replace(images=foreign), [0.3, 1.0]).columns.values()
    torch.testing.assert_close(low, each.images, atol=0.01, rtol=0)
    other = edits.sdedit(each._replace(images=-foreign), [1.0]).columns["strength 1"]
    nearest = [torch.cdist(images.flatten(1), given(4).images.flatten(1)).argmin(1) for images in (full, other)]
    assert torch.equal(*nearest)  # what comes out depends on the noise, no more on the input


def test_inpainting_keeps_what_is_known_to_the_bit():
    each = given(sampler=ddpm)._replace(labels=torch.tensor([2, 3]))
    columns = edits.inpaint(each, box=[2, 0, 8, 4]).columns
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[0:4, 2:8] = False
    assert torch.equal(columns["result"][..., outside], each.images[..., outside])
    torch.testing.assert_close(columns["result"][..., ~outside], given(4).images[2:][..., ~outside], atol=1e-3, rtol=0)


@pytest.mark.parametrize("sampler", [ddim, ddpm, dpm_solver])
def test_superresolution_pools_back_to_its_input_within_black_and_white(sampler):
    each = given(sampler=sampler)
    edited = edits.superres(each, factor=4)
    drawn = edited.columns["result"]
    pixels = drawn * STD + MEAN
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    torch.testing.assert_close(avg_pool2d(drawn, 4), avg_pool2d(each.images, 4), atol=1e-3, rtol=0)
    assert edited.figures["largest error of the averages (of 1)"].max() < 1e-3
    with pytest.raises(UserError, match="must be at least 2 and divide"):
        edits.superres(each, factor=3)


def test_inverting_returns_the_image_the_better_the_more_steps():
    each, errors = given(), []
    gaussian = ideal_denoiser(GaussianNetwork(0.2, 0.9), SCHEDULE, 8, MEAN, STD)
    for steps in (10, 40, 160):
        each = each._replace(denoiser=gaussian, sampler=partial(ddim, steps=steps))
        errors.append(edits.invert(each, steps, trailing).figures["mean absolute error (of 1)"].mean())
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.02


def test_interpolating_goes_from_one_image_to_the_other():
    each = given(4)
    columns = edits.interpolate(each, 40, trailing, columns=3).columns
    assert list(columns) == ["from", "0", "0.5", "1", "to"]
    assert all(len(images) == 2 for images in columns.values())
    torch.testing.assert_close(columns["0"], each.images[::2], atol=0.05, rtol=0)
    torch.testing.assert_close(columns["1"], each.images[1::2], atol=0.05, rtol=0)
    with pytest.raises(UserError, match="in pairs, not 3"):
        edits.interpolate(given(3), 5, trailing)


def test_slerp_stays_as_strong_as_noise():
    first, second = torch.randn(2, 5, 1, 16, 16)
    torch.testing.assert_close(slerp(first, second, 0.0), first)
    torch.testing.assert_close(slerp(first, second, 1.0), second)
    middle = slerp(first, second, 0.5)
    assert middle.std().item() == pytest.approx(1, abs=0.05)
    assert ((first + second) / 2).std() < 0.8


def test_an_anagram_is_shown_both_ways():
    columns = edits.anagram(given(), (0, 1), rotate).columns
    as_it_is, viewed = columns.values()
    assert list(columns) == ["as 0", "viewed, as 1"]
    assert torch.equal(viewed, as_it_is.rot90(1, (2, 3)))


@pytest.mark.parametrize("edit", [partial(edits.anagram, view=rotate), edits.hybrid])
def test_two_labels_want_a_denoiser_with_labels(edit):
    with pytest.raises(UserError, match="trained without"):
        edit(given()._replace(labels=None), labels=(0, 1))
