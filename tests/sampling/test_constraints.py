"""Conditions against closed forms: one image for each label, and correlated Gaussians whose conditionals are known."""

from functools import partial

import pytest
import torch

from diffusion_lab.process.discrete import Discrete, linear
from diffusion_lab.process.schedules import Cosine, Edm, Flow
from diffusion_lab.sampling import times
from diffusion_lab.sampling.constraints import Anagram, Hybrid, Known, Pooled, UpTo, blur
from diffusion_lab.sampling.diffusers_schedulers import scheduler
from diffusion_lab.sampling.samplers import ddim, ddpm, dpm_solver, euler, heun
from diffusion_lab.sampling.views import flip, patches, rotate, transpose
from tests.sampling.ideal import CorrelatedNetwork, GaussianNetwork, IdealNetwork, LabelledNetwork, ideal_denoiser

SAMPLERS = {
    "ddim": partial(ddim, steps=10),
    "ddpm": partial(ddpm, steps=10),
    "repaint": partial(ddpm, steps=30, resamples=3, jump=2),
    "euler": partial(euler, steps=10, churn=5.0),
    "heun": partial(heun, steps=9),
    "dpmpp_3m": partial(dpm_solver, steps=10, order=3, times=times.karras),
    "dpmpp_2m_sde": partial(dpm_solver, steps=10, eta=1.0),
}
MEAN = torch.tensor([0.5, -0.5, 1.0, 0.0], dtype=torch.float64)
COVARIANCE = torch.tensor(
    [[1.0, 0.8, 0.3, 0.0], [0.8, 1.0, 0.5, 0.2], [0.3, 0.5, 1.0, 0.6], [0.0, 0.2, 0.6, 1.0]], dtype=torch.float64
)


def two_images(size: int = 8):
    """A denoiser that knows one image for each of two labels."""
    torch.manual_seed(0)
    images = torch.randn(2, 1, size, size)
    return images, ideal_denoiser(LabelledNetwork(*(IdealNetwork(image[None]) for image in images)), Cosine())


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_known_pixels_stay_exactly_and_the_rest_is_drawn(sampler):
    images, denoiser = two_images()
    unknown = torch.zeros(8, 8, dtype=torch.bool)
    unknown[2:6, 3:] = True
    known, label = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    drawn = sampler(Known(denoiser, known, unknown, lambda call: torch.randn(2, 1, 8, 8)), torch.randn(2, 1, 8, 8), label)
    assert torch.equal(drawn[..., ~unknown], known[..., ~unknown])
    torch.testing.assert_close(drawn[..., unknown], images[..., unknown], atol=1e-4, rtol=0)


def inpainted(sampler, count: int = 3000):
    """Pixels 1 and 2 of a correlated Gaussian, drawn given the others; and what their mean and covariance should be."""
    torch.manual_seed(0)
    unknown = torch.tensor([False, True, True, False])
    given = torch.tensor([1.5, 0.0, 0.0, -1.0], dtype=torch.float64).view(1, 1, 1, 4)
    gain = COVARIANCE[unknown][:, ~unknown] @ torch.linalg.inv(COVARIANCE[~unknown][:, ~unknown])
    mean = MEAN[unknown] + gain @ (given.flatten()[~unknown] - MEAN[~unknown])
    covariance = COVARIANCE[unknown][:, unknown] - gain @ COVARIANCE[~unknown][:, unknown]
    denoiser = ideal_denoiser(CorrelatedNetwork(MEAN, COVARIANCE), Cosine(0.999, 0.02)).double()
    shape = (count, 1, 1, 4)
    fresh = lambda call: torch.randn(shape, dtype=torch.float64)  # noqa: E731
    drawn = sampler(Known(denoiser, given.expand(shape), unknown, fresh), fresh(0)).flatten(1)[:, unknown]
    return (drawn.mean(0) - mean).abs().max(), (torch.cov(drawn.T) - covariance).abs().max()


def test_inpainting_a_gaussian_comes_to_its_conditional_by_resampling():
    straight = inpainted(partial(ddpm, steps=50))
    resampled = inpainted(partial(ddpm, steps=1000, resamples=10, jump=2))
    assert max(resampled) < 0.06
    assert straight[0] > 0.15  # without going back and forth it is another distribution
    assert straight[1] > 0.09


def test_repaints_default_bias_is_the_one_that_the_docs_say():
    """docs/edits.md: means off by at most 0.08, where straight ancestral steps are off by 0.19."""
    assert inpainted(partial(ddpm, steps=100, resamples=5, jump=2), 20_000)[0] == pytest.approx(0.08, abs=0.015)
    assert inpainted(partial(ddpm, steps=100), 20_000)[0] == pytest.approx(0.19, abs=0.015)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_what_is_pooled_stays_and_the_rest_is_drawn(sampler):
    images, denoiser = two_images()
    small, label = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    drawn = sampler(Pooled(denoiser, small, 4), torch.randn(2, 1, 8, 8), label)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(drawn, 4), small, atol=1e-4, rtol=0)
    detail = (drawn - images).unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    torch.testing.assert_close(detail, detail.mean(4, keepdim=True).expand_as(detail), atol=1e-4, rtol=0)


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Edm(), Discrete(linear())], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_from_the_middle_of_the_way_the_image_is_found(sampler, schedule):
    image = torch.randn(1, 1, 4, 4)
    denoiser = UpTo(ideal_denoiser(IdealNetwork(image), schedule), 0.4)
    signal_rate, noise_rate = denoiser.rates(torch.ones(1))
    assert (signal_rate, noise_rate) == pytest.approx([rate.item() for rate in schedule(torch.tensor([0.4]))])
    drawn = sampler(denoiser, torch.randn(5, 1, 4, 4))
    torch.testing.assert_close(drawn, image.expand(5, -1, -1, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("begin", [0.4, 1.0])
def test_from_the_middle_of_the_way_a_gaussian_flows_as_it_should(begin, name):
    """Also by diffusers' schedulers, whose own scale of a noisy image depends on where they begin."""
    pytest.importorskip("diffusers")
    mean, std, schedule = 1.5, 0.5, Cosine(0.9999, 0.02)
    rates = torch.stack(schedule(torch.tensor([begin], dtype=torch.float64)))
    noise = torch.randn(256, 1, 1, 1, dtype=torch.float64)
    noisy = rates.norm() * noise
    exact = mean + std / (rates[0] ** 2 * std**2 + rates[1] ** 2).sqrt() * (noisy - rates[0] * mean)
    denoiser = UpTo(ideal_denoiser(GaussianNetwork(mean, std), schedule).double(), begin)
    for sampler in (partial(scheduler, name=name), partial(dpm_solver, order=2)):
        torch.testing.assert_close(sampler(denoiser, noise, steps=100), exact, atol=0.04, rtol=0)


@pytest.mark.parametrize("view", [flip, rotate, transpose, partial(patches, across=2)])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_an_anagram_of_two_images_is_their_mean_seen_both_ways(view, sampler):
    images, denoiser = two_images()
    labels = torch.zeros(3).long(), torch.ones(3).long()
    drawn = sampler(Anagram(denoiser, labels, view), torch.randn(3, 1, 8, 8))
    torch.testing.assert_close(drawn[:1], (images[:1] + view(images[1:], back=True)) / 2, atol=1e-4, rtol=0)


def test_an_anagram_read_the_other_way_is_that_of_the_labels_exchanged():
    _, denoiser = two_images()
    noise, labels = torch.randn(3, 1, 8, 8), (torch.zeros(3).long(), torch.ones(3).long())
    drawn = ddim(Anagram(denoiser, labels, flip), noise)
    other = ddim(Anagram(denoiser, labels[::-1], flip), flip(noise))
    torch.testing.assert_close(flip(drawn), other, atol=1e-5, rtol=0)


def test_a_hybrid_has_the_low_frequencies_of_one_and_the_high_of_the_other():
    images, denoiser = two_images(16)
    drawn = ddim(Hybrid(denoiser, (torch.zeros(1).long(), torch.ones(1).long()), 2.0), torch.randn(1, 1, 16, 16))
    far, near = images[:1], images[1:]
    torch.testing.assert_close(drawn, blur(far, 2.0) + near - blur(near, 2.0), atol=1e-4, rtol=0)
    assert (blur(drawn, 4.0) - blur(far, 4.0)).abs().mean() < (blur(drawn, 4.0) - blur(near, 4.0)).abs().mean()


def test_blur_is_a_gaussian():
    from scipy.ndimage import gaussian_filter

    image = torch.randn(1, 1, 20, 20)
    expected = gaussian_filter(image[0, 0].numpy(), 1.5, mode="mirror", truncate=4.34)
    torch.testing.assert_close(blur(image, 1.5)[0, 0], torch.from_numpy(expected), atol=1e-4, rtol=0)
