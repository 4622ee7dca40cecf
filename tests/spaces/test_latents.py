import math

import pytest
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.spaces.latents import Latents, MeasuredLatents, fingerprint


class Halving(nn.Module):
    """Means of 2 x 2 pixels, one channel more: an autoencoder in closed form, of images that are flat in these squares."""

    def encode(self, images):
        means = nn.functional.avg_pool2d(images, 2)
        return torch.cat([means, means.mean(1, keepdim=True)], 1)

    def decode(self, latents):
        return latents[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_there_and_back():
    space = Latents(Halving(), channels=4, size=3, factor=2, scale=0.5, shift=0.25)
    small = torch.randint(0, 256, (5, 3, 3, 3), dtype=torch.uint8)
    pixels = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    latents = space.encode(pixels)
    assert space.shape == tuple(latents.shape[1:]) == (4, 3, 3)
    assert space.pixel_shape == (3, 6, 6)
    torch.testing.assert_close(latents[:, :3], (small / 127.5 - 1 - 0.25) * 0.5)
    torch.testing.assert_close(space.decode(latents), pixels / 255)
    assert space.decode(9 * torch.ones(1, 4, 3, 3)).max() == 1
    assert space.bounds is None


class Gaussian(Halving):
    """The same with a deviation of a tenth for each latent, in the interface of networks that are trained here."""

    channels, latent_channels, factor, variational = 3, 4, 2, True

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(0.5))

    def moments(self, images):
        means = self.encode(images) + self.offset
        return torch.cat([means, torch.full_like(means, 2 * math.log(0.1))], 1)

    def decode(self, latents):
        return super().decode(latents - self.offset)


def measured(pixels, **more) -> MeasuredLatents:
    space = MeasuredLatents(Gaussian(), channels=4, size=(3, 2), **more)
    space.measure(pixels.split(7))
    return space


def some_pixels(count=40):
    torch.manual_seed(0)
    small = torch.randint(0, 256, (count, 3, 3, 2), dtype=torch.uint8)
    return small.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_measured_latents_are_of_zero_mean_and_unit_variance_as_training_sees_them():
    pixels = some_pixels(2000)
    space = measured(pixels).train()
    latents = space.encode(pixels).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(latents.std(1), torch.ones(4), atol=0.02, rtol=0)
    again = space.encode(pixels).transpose(0, 1).flatten(1)
    noise = (latents - again) * space.std.view(-1, 1)  # of two draws
    torch.testing.assert_close(noise.std(1), torch.full((4,), 0.1 * 2**0.5), rtol=0.02, atol=0)
    assert not space.autoencoder.training
    space.eval()
    assert torch.equal(space.encode(pixels), space.encode(pixels))
    torch.testing.assert_close(space.decode(space.encode(pixels)), pixels / 255)
    assert (space.shape, space.pixel_shape, space.bounds) == ((4, 3, 2), (3, 6, 4), None)


def test_what_is_encoded_already_is_as_good_as_pixels():
    pixels = some_pixels()
    space, cached = measured(pixels), measured(measured(pixels).moments(pixels))
    for name, buffer in space.named_buffers():
        torch.testing.assert_close(buffer, cached.get_buffer(name))
    behind = torch.cat([space.moments(pixels), space.moments(pixels.flip(-1))], 1)
    for given in (space.moments(pixels), behind):
        torch.manual_seed(1)
        online = space.train().encode(pixels)
        torch.manual_seed(1)
        assert torch.equal(space.encode(given), online)


def test_another_autoencoder_is_noticed():
    pixels = some_pixels()
    space = measured(pixels)
    mine = measured(pixels, sha256=fingerprint(space.autoencoder))
    mine.load_state_dict(space.state_dict())
    weights = {**space.state_dict(), "autoencoder.offset": torch.tensor(0.4)}
    with pytest.raises(UserError, match="holds another autoencoder than that of its latents, whose SHA-256 begins"):
        mine.load_state_dict(weights)
