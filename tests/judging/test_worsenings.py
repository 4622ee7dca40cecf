import numpy as np
import pytest
import torch

from diffusion_lab.judging.worsenings import WORSENINGS, blur, dropped, duplicates, ghosts, jigsaw, noise

LABELS = np.arange(40) % 5


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def pixels(request) -> torch.Tensor:
    """Smooth images, of a size that 4 does not divide."""
    coarse = torch.rand(40, request.param, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, (18, 21), mode="bicubic").clamp(0, 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", [name for name, each in WORSENINGS.items() if each.image])
def test_each_step_is_further_from_the_image_than_the_one_before(name, pixels):
    before, worsening = pixels.clone(), WORSENINGS[name]
    worse = [worsening.image(pixels, LABELS, step, np.random.default_rng(0)) for step in worsening.steps]
    assert all(each.dtype == torch.uint8 and each.shape == pixels.shape for each in worse)
    far = [(each.float() - pixels.float()).abs().mean().item() for each in worse]
    assert far == sorted(far)
    assert far[0] > 0
    assert torch.equal(pixels, before)


def test_blur_and_noise_are_of_the_deviation_that_they_say():
    random = np.random.default_rng(0)
    grey = torch.full((20, 1, 32, 32), 128, dtype=torch.uint8)
    assert noise(grey, LABELS, 0.1, random).float().std().item() == pytest.approx(25.5, rel=0.02)
    point = torch.zeros(1, 1, 31, 31, dtype=torch.uint8)
    point[0, 0, 15, 15] = 255
    assert blur(point, LABELS, 1.4, random).max().item() == pytest.approx(255 / (2 * np.pi * 1.4**2), abs=1)


def test_a_jigsaw_moves_tiles_and_changes_none(pixels):
    moved = jigsaw(pixels, LABELS, 16, np.random.default_rng(0))
    tiles = [part.unfold(2, 4, 4).unfold(3, 5, 5).flatten(2, 3).double().mean((1, 3, 4)) for part in (pixels, moved)]
    torch.testing.assert_close(*(each.sort(1).values for each in tiles))
    assert torch.equal(moved[:, :, 16:], pixels[:, :, 16:])
    assert torch.equal(moved[..., 20:], pixels[..., 20:])


def test_ghosts_are_of_another_class(pixels):
    flat = torch.from_numpy(LABELS * 50).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    seen = ghosts(flat, LABELS, 0.5, np.random.default_rng(0))[:, 0, 0, 0].int() - flat[:, 0, 0, 0].int()
    assert (seen != 0).all()


def test_sets_that_are_worse():
    random = np.random.default_rng(0)
    for share, left in ((0.2, 4), (0.4, 3)):
        rows, of = dropped(LABELS, share, 20, random)
        assert (len(set(LABELS[rows])), of) == (left, 8 * left)
    fewer = [set(LABELS[dropped(LABELS, share, 20, random)[0]]) for share in (0.2, 0.4)]
    assert fewer[1] < fewer[0]
    rows, of = duplicates(LABELS, 0.5, 20, random)
    assert of == 40
    assert len(rows) == 20
    assert len(set(rows[:10])) == 10
    assert set(rows[10:]) <= set(rows[:10])
