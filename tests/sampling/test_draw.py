import contextlib
from functools import partial

import pytest
import torch

from diffusion_lab.errors import Diverged, UserError
from diffusion_lab.networks.unet import UNet
from diffusion_lab.process.discrete import Discrete, linear
from diffusion_lab.process.schedules import Cosine, Flow, LinearClipped, Sigmoid
from diffusion_lab.sampling.diffusers_schedulers import scheduler
from diffusion_lab.sampling.draw import Finite, NetworkCalls, draw
from diffusion_lab.sampling.samplers import ddim
from tests.networks.test_unet import waken
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


def images(count: int, batch_size: int, seed: int = 0, eta: float = 0.0) -> torch.Tensor:
    torch.manual_seed(0)  # the same weights each time
    denoiser = ideal_denoiser(waken(UNet(channels=1, image_size=28, widths=(16, 16))), Cosine(), size=28)
    return torch.cat(list(draw(denoiser, partial(ddim, eta=eta, steps=5), count, seed, batch_size)))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_image_17_is_the_same_whatever_count_and_batch_size(eta):
    reference = images(40, 40, eta=eta)
    for count, batch_size in ((18, 18), (40, 7), (33, 1)):
        torch.testing.assert_close(images(count, batch_size, eta=eta)[17], reference[17], atol=1e-4, rtol=0)
    assert (reference[17] - reference[16]).abs().max() > 0.01
    assert (images(18, 18, seed=1, eta=eta)[17] - reference[17]).abs().max() > 0.01


def test_network_calls_are_counted_and_the_count_ends():
    denoiser = ideal_denoiser(waken(UNet(channels=1, image_size=28, widths=(16, 16))), Cosine(), size=28)
    with NetworkCalls(denoiser) as calls:
        list(draw(denoiser, ddim, 10, seed=0, batch_size=5))
    assert calls.count == 10 * 20
    denoiser(torch.randn(1, 1, 28, 28), torch.rand(1))
    assert calls.count == 200


@pytest.mark.parametrize(
    "sampler",
    [
        partial(scheduler, name="UniPCMultistepScheduler"),
        partial(scheduler, name="DEISMultistepScheduler"),
        partial(scheduler, name="DPMSolverMultistepScheduler"),
    ],
    ids=lambda sampler: sampler.keywords["name"],
)
def test_numbers_that_are_not_finite_are_never_images(sampler):
    """On the plateaus of linear_clipped these divide by a step of length 0; the images would be black, and scored."""
    denoiser = ideal_denoiser(GaussianNetwork(0.0, 1.0), LinearClipped())
    noise = torch.randn(2, 1, 4, 4)
    assert not sampler(denoiser, noise).isfinite().all()
    with pytest.raises(UserError, match=r"sampler scheduler drew numbers .* LinearClipped, from its network call \d+ of 20"):
        Finite(sampler)(denoiser, noise)


@pytest.mark.parametrize("schedule", [Flow(), Sigmoid(), Discrete(linear())], ids=lambda it: type(it).__name__)
def test_settings_that_a_schedule_has_no_place_for_get_one_line(schedule):
    denoiser = ideal_denoiser(GaussianNetwork(0.0, 1.0), schedule)
    sampler = Finite(partial(scheduler, name="UniPCMultistepScheduler", settings={"use_karras_sigmas": True}))
    for steps in (3, 10, 50):
        with contextlib.suppress(UserError):  # nothing else
            assert sampler(denoiser, torch.randn(2, 1, 4, 4), steps=steps).isfinite().all()


def test_a_network_that_diverged_is_named_by_its_first_broken_call():
    class Broken(torch.nn.Module):
        calls = 0

        def forward(self, noisy, level, label=None):
            self.calls += 1
            return noisy * (float("nan") if self.calls == 3 else 1.0)

    with pytest.raises(Diverged, match=r"sampler ddim .* schedule Cosine, from its network call 3 of 8"):
        Finite(partial(ddim, steps=8))(ideal_denoiser(Broken(), Cosine()), torch.randn(2, 1, 4, 4))


def test_a_sampler_of_ones_own_is_given_the_keywords_that_it_takes():
    seen = []

    def mine(denoiser, noise, label=None, steps=2, callback=None):
        seen.append((steps, callback))
        return noise

    denoiser, noise = ideal_denoiser(GaussianNetwork(0.0, 1.0), Cosine()), torch.randn(2, 1, 4, 4)
    assert torch.equal(Finite(partial(mine, steps=5))(denoiser, noise, fresh_noise=torch.randn_like), noise)
    assert torch.equal(Finite(lambda denoiser, noise, label: noise)(denoiser, noise, steps=3, fresh_noise=None), noise)
    assert seen[0][0] == 5
    assert callable(seen[0][1])
    with pytest.raises(Diverged, match="sampler <lambda> drew numbers that are not finite on schedule Cosine: take"):
        Finite(lambda denoiser, noise, label: noise / 0)(denoiser, noise)


def test_a_sampler_that_does_not_take_what_all_take_is_named():
    def short(denoiser, noise, steps=2):
        return noise

    with pytest.raises(UserError, match=r"sampler short must be a function of \(denoiser, noise, label\): too many"):
        Finite(partial(short, steps=2))
