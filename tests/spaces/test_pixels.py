import pytest
import torch

from diffusion_lab.spaces.pixels import Pixels, Standardised, Symmetric


def test_pixels_survive_the_way_there_and_back():
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    space = Pixels(3, 4, [0.4, 0.5, 0.6], [0.2, 0.3, 0.1])
    encoded = space.encode(pixels)
    torch.testing.assert_close(encoded[:, 1], (pixels[:, 1] / 255 - 0.5) / 0.3)
    assert ((space.decode(encoded) * 255).round() == pixels).all()


@pytest.mark.parametrize("space", [Pixels(3, 4, [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]), Symmetric(3, 4)])
def test_bounds_are_what_black_and_white_become(space):
    for shade, bound in zip((0, 255), space.bounds, strict=True):
        image = space.encode(torch.full((1, 3, 4, 4), shade, dtype=torch.uint8))
        torch.testing.assert_close(image, bound.expand(1, 3, 4, 4), atol=1e-6, rtol=0)


def test_symmetric_is_from_minus_one_to_one():
    black, white = Symmetric(3, 4).bounds
    assert black.flatten().tolist() == [-1] * 3
    assert white.flatten().tolist() == [1] * 3


def test_standardised_images_have_no_mean_and_unit_variance_in_each_channel():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8) // torch.tensor([1, 2, 5]).view(3, 1, 1)
    space = Standardised(3, 8)
    space.measure(iter(pixels.split(7)))
    encoded = space.encode(pixels).double()
    torch.testing.assert_close(encoded.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(encoded.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6, rtol=0)


def test_how_images_come_makes_no_difference_to_what_is_measured():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (500, 3, 8, 8), dtype=torch.uint8)
    spaces = [Standardised(3, 8) for _ in range(3)]
    for space, batches in zip(spaces, (pixels.split(7), pixels.flip(0).split(100), [pixels]), strict=True):
        space.measure(batches)
    values = pixels.double().transpose(0, 1).flatten(1) / 255
    for space in spaces:
        assert torch.equal(space.mean.flatten(), values.mean(1).float())
        assert torch.equal(space.std.flatten(), values.std(1, correction=0).float())


def test_one_flat_image_still_has_a_scale():
    space = Standardised(1, 4)
    space.measure([torch.full((1, 1, 4, 4), 51, dtype=torch.uint8)])
    assert (space.mean.item(), space.std.item()) == (pytest.approx(0.2), 1.0)


def test_what_was_measured_is_part_of_the_weights():
    measured, fresh = Standardised(1, 4), Standardised(1, 4)
    measured.measure([torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)])
    fresh.load_state_dict(measured.state_dict())
    assert torch.equal(fresh.mean, measured.mean) and torch.equal(fresh.std, measured.std)
