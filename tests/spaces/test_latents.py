import torch
from torch import nn

from diffusion_lab.spaces.latents import Latents


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
