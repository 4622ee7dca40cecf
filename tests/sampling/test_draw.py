from functools import partial

import pytest
import torch

from diffusion_lab.networks.unet import UNet
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.sampling.draw import NetworkCalls, draw
from diffusion_lab.sampling.samplers import ddim
from tests.networks.test_unet import waken
from tests.sampling.ideal import ideal_denoiser


def images(count: int, batch_size: int, seed: int = 0, eta: float = 0.0) -> torch.Tensor:
    torch.manual_seed(0)  # the same weights each time
    denoiser = ideal_denoiser(waken(UNet(channels=1, image_size=28, widths=(16, 16))), Cosine(), size=28)
    return torch.cat(list(draw(denoiser, partial(ddim, eta=eta), count, seed, batch_size)))


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
