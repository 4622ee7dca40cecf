import pytest
import torch
from torch import nn

from diffusion_lab.conditions import Classes
from diffusion_lab.denoiser import Denoiser, DenoiserAround, NetworkDenoiser
from diffusion_lab.process.levels import noise_power
from diffusion_lab.process.schedules import Cosine, Linear
from diffusion_lab.process.targets import Image, Noise
from diffusion_lab.sampling.draw import NetworkCalls
from diffusion_lab.spaces.pixels import Pixels


class Fixed(nn.Module):
    """A network that always answers the same."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, noisy, level, label=None):
        self.level = level
        return self.answer


@pytest.mark.parametrize("target", [Noise(), Image()], ids=lambda t: type(t).__name__)
def test_estimates_are_tied_by_the_rates(target):
    noisy, time = torch.randn(5, 1, 4, 4), torch.rand(5)
    denoiser = NetworkDenoiser(Fixed(torch.randn(5, 1, 4, 4)), Cosine(), target, noise_power, Pixels(1, 4))
    prediction = denoiser(noisy, time)
    signal_rate, noise_rate = denoiser.rates(time)
    torch.testing.assert_close(signal_rate * prediction.image + noise_rate * prediction.noise, noisy)
    assert denoiser.network.level.shape == (5,)


def test_noisy_is_the_forward_process_of_each_image():
    denoiser = NetworkDenoiser(nn.Identity(), Cosine(), Noise(), noise_power, Pixels(1, 4))
    image, noise, time = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([0.0, 0.5, 1.0])
    angle = torch.acos(torch.tensor(0.95)) + (torch.acos(torch.tensor(0.02)) - torch.acos(torch.tensor(0.95))) * time
    expected = angle.cos().view(-1, 1, 1, 1) * image + angle.sin().view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(denoiser.noisy(image, noise, time), expected)


class Doubled(DenoiserAround):
    """Two calls for one, whose mean it gives."""

    def forward(self, noisy, time, label=None):
        first, second = self.denoiser(noisy, time, label), self.denoiser(noisy, time, label)
        return self.of_image((first.image + second.image) / 2, noisy, time)


class ClosedForm(Denoiser):
    """A denoiser without a network: of pixels that are all 0."""

    def forward(self, noisy, time, label=None):
        return self.of_image(torch.zeros_like(noisy), noisy, time)


def test_wrappers_are_the_base_alone_and_calls_are_counted_innermost():
    inner = ClosedForm(Cosine(), Pixels(1, 4), Classes(3))
    around = Doubled(Doubled(inner))
    assert not hasattr(around, "network")
    assert (around.shape, len(around.conditions), around.innermost) == ((1, 4, 4), 3, inner)
    noisy, time = torch.randn(5, 1, 4, 4), torch.full((5,), 0.5)
    with NetworkCalls(around) as calls:
        image, noise, _ = around(noisy, time)
    assert calls.count == 4 * 5
    torch.testing.assert_close(noise, noisy / inner.rates(time)[1])
    assert not image.any()


def test_models_see_alike_where_schedule_space_and_size_are_alike():
    one = ClosedForm(Cosine(), Pixels(1, 4, 0.5, 0.5))
    assert one.sees_as(ClosedForm(Cosine(), Pixels(1, 4, 0.5, 0.5)))
    assert not one.sees_as(ClosedForm(Linear(), Pixels(1, 4, 0.5, 0.5)))
    assert not one.sees_as(ClosedForm(Cosine(), Pixels(1, 4, 0.4, 0.5)))
    assert not one.sees_as(ClosedForm(Cosine(), Pixels(1, 8, 0.5, 0.5)))
