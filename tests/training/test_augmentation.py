"""EDM's augmentation against maps known in closed form, and what it says it did against what it did."""

import math

import pytest
import torch

from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.networks.score_unet import ScoreUNet
from diffusion_lab.networks.unet import UNet
from diffusion_lab.process import levels, weightings
from diffusion_lab.process.schedules import Edm as EdmSchedule
from diffusion_lab.process.targets import Edm
from diffusion_lab.process.times import log_normal
from diffusion_lab.spaces.pixels import Symmetric
from diffusion_lab.tasks.denoiser import DenoiserTask
from diffusion_lab.training import augmentation
from diffusion_lab.training.augmentation import edm, nothing, rotation, warped
from diffusion_lab.training.criteria import Denoising
from diffusion_lab.training.denoiser import DenoiserTraining
from diffusion_lab.training.teachers import Data

PLACES = torch.stack(torch.meshgrid(*2 * [torch.arange(32) - 15.5], indexing="xy"), dim=-1)  # right, down
INSIDE = (..., slice(8, 24), slice(8, 24))


def waves(places: torch.Tensor) -> torch.Tensor:
    """A smooth image (1, 1, H, W), as a function of places (H, W, 2)."""
    right, down = places.unbind(-1)
    return ((0.3 * right).sin() + (0.2 * down + 0.1 * right).cos())[None, None]


def test_a_linear_map_takes_what_is_at_p_to_where_it_says():
    matrix, offset = torch.tensor([[[0.9, 0.3], [-0.2, 1.2]]]), torch.tensor([[2.3, -1.6]])
    found = warped(waves(PLACES), matrix, offset)
    expected = waves((PLACES - offset[0]) @ torch.linalg.inv(matrix[0]).T)
    assert (found - expected)[INSIDE].abs().max() < 0.02
    assert (waves(PLACES) - expected)[INSIDE].abs().max() > 1


def test_images_that_are_not_square_are_turned_in_pixels():
    """Stretched to a square first, they would be sheared."""
    places = torch.stack(torch.meshgrid(torch.arange(48) - 23.5, torch.arange(32) - 15.5, indexing="xy"), dim=-1)
    matrix, offset = rotation(torch.tensor([0.4])), torch.tensor([[2.3, -1.6]])
    found = warped(waves(places), matrix, offset)
    expected = waves((places - offset[0]) @ torch.linalg.inv(matrix[0]).T)
    assert found.shape == (1, 1, 32, 48)
    assert (found - expected)[..., 8:24, 12:36].abs().max() < 0.02
    images = torch.randn(8, 1, 4, 6)
    assert edm(images, probability=0.9)[0].shape == images.shape


def test_the_identity_and_whole_pixels_change_no_value():
    images, eye = torch.randn(3, 3, 32, 32), torch.eye(2).expand(3, 2, 2)
    torch.testing.assert_close(warped(images, eye, torch.zeros(3, 2)), images, atol=1e-4, rtol=0)
    moved = warped(images, eye, torch.tensor([[3.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(moved[..., 2:, 3:], images[..., :-2, :-3], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[..., 2:, :3], images[..., :-2, 1:4].flip(-1), atol=1e-4, rtol=0)  # the reflection


def test_a_quarter_turn_is_torchs():
    images = waves(PLACES)
    turned = warped(images, rotation(torch.tensor([math.pi / 2])), torch.zeros(1, 2))
    assert (turned - torch.rot90(images, -1, (2, 3)))[INSIDE].abs().max() < 0.02  # from right to down: clockwise


def test_with_no_probability_images_are_mirrored_half_of_the_time_and_keep_their_values():
    torch.manual_seed(0)
    images = torch.randn(400, 1, 4, 4)
    changed, shown = edm(images, probability=0.0)
    mirrored = shown[:, 0].bool()
    assert 160 < mirrored.sum() < 240
    assert not shown[:, 1:].any()
    assert torch.equal(changed[mirrored], images[mirrored].flip(-1))
    assert torch.equal(changed[~mirrored], images[~mirrored])


def test_what_it_shows_is_what_it_did():
    """Each image is made again from its nine numbers alone."""
    torch.manual_seed(1)
    images = waves(PLACES).repeat(64, 1, 1, 1)
    changed, shown = edm(images, probability=0.5)
    for image, (x_flip, y_flip, scaled, cos, sin, along, across, right, down) in zip(changed, shown, strict=True):
        stretched, direction = torch.hypot(along, across), torch.atan2(across, along)
        turn = torch.tensor([[1 + cos, -sin], [sin, 1 + cos]])
        axes = torch.tensor([[direction.cos(), -direction.sin()], [direction.sin(), direction.cos()]])
        flips = torch.diag(torch.stack([1 - 2 * x_flip, 1 - 2 * y_flip]))
        errors = []
        for power in (0.2 * stretched, -0.2 * stretched):  # which of the two, the numbers do not tell
            stretch = axes @ torch.diag(torch.stack([2**power, 2**-power])) @ axes.T
            source = (PLACES - 4 * torch.stack([right, down])) @ torch.linalg.inv(  # 4 pixels: an eighth
                stretch @ turn @ (2 ** (0.2 * scaled) * flips)
            ).T
            inside = (source.abs() < 11).all(-1)
            errors.append(((image - waves(source))[0, 0].abs() * inside).max())
        assert min(errors) < 0.06


def test_zeros_are_shown_where_nothing_was_done_and_then_alone():
    torch.manual_seed(0)
    images = waves(PLACES).repeat(200, 1, 1, 1)
    changed, shown = edm(images)
    untouched = (shown == 0).all(1)
    assert 20 < untouched.sum() < 90  # 0.5 * 0.88 ** 4 * 0.94 of 200 is 56
    assert torch.equal(changed[untouched], images[untouched])
    assert (changed - images)[~untouched].abs().amax((1, 2, 3)).min() > 1e-4


def test_numbers_have_the_papers_distributions():
    torch.manual_seed(0)
    shown = edm(torch.zeros(20_000, 1, 2, 2), probability=0.12)[1]
    done = (shown != 0).float().mean(0)
    torch.testing.assert_close(done, torch.tensor([0.5, 0.06, *[0.12] * 7]), atol=0.01, rtol=0)
    for column in (2, 7, 8):
        assert shown[shown[:, column] != 0, column].std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(shown[:, 7] != 0, shown[:, 8] != 0)  # moved both ways, or not
    turned = shown[shown[:, 4] != 0]
    torch.testing.assert_close((1 + turned[:, 3]) ** 2 + turned[:, 4] ** 2, torch.ones(len(turned)))
    assert turned[:, 3].mean().item() == pytest.approx(-1, abs=0.05)  # all angles alike


def test_the_wavelets_moves_by_two_are_orthonormal_and_it_keeps_polynomials_of_degree_five():
    taps = torch.tensor(augmentation.SYM6, dtype=torch.float64)
    products = torch.tensor([(taps[: len(taps) - 2 * k] * taps[2 * k :]).sum() for k in range(6)])
    torch.testing.assert_close(products, torch.eye(6, dtype=torch.float64)[0], atol=1e-6, rtol=0)
    signs, places = (-1.0) ** torch.arange(12), torch.arange(12, dtype=torch.float64) - 5.5
    moments = torch.stack([(signs * taps * places**power).sum() / 5.5**power for power in range(6)])
    assert moments.abs().max() < 1e-6


def test_nothing_is_nothing():
    images = torch.randn(2, 3, 4, 4)
    assert nothing(images) == (images, None)


def denoiser_of(network) -> NetworkDenoiser:
    return NetworkDenoiser(network, EdmSchedule(), Edm(0.5), levels.log_sigma, Symmetric(1, 8))


CRITERION = Denoising(torch.nn.MSELoss(reduction="none"), weightings.uniform, Data())


def test_training_tells_the_network_what_was_done_and_drawing_nothing():
    torch.manual_seed(0)
    network = ScoreUNet(1, 8, width=8, multipliers=(1,), blocks=1, attention=())
    told = []
    network.register_forward_pre_hook(lambda module, given, more: told.append(more.get("augmented")), with_kwargs=True)
    settings = {"optimizer": None, "learning_rate": None, "seed": 0, "config": {}}
    module = DenoiserTraining(denoiser_of(network), CRITERION, log_normal, 0.0, edm, **settings)
    labels = torch.full((6,), -1)
    drawn = module.draw(Batch(torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), labels, torch.arange(6)))
    module.objective(*drawn)
    assert drawn[-1].shape == (6, 9)
    assert torch.equal(told.pop(), drawn[-1])
    module.model(drawn[0], torch.full((6,), 0.5), labels)
    assert told == [None]  # which is as good as zeros, see test_score_unet.py


def test_a_network_that_cannot_be_told_is_named():
    task = DenoiserTask(CRITERION, log_normal, 0.0, edm)
    with pytest.raises(UserError, match=r"UNet cannot be told: take augment=nonleaky .* or augmentation=none"):
        task.check(denoiser_of(UNet(1, 8, widths=(8,), heads=(0,))), setting=None)
