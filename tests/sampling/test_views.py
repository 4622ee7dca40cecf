from functools import partial

import numpy as np
import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.sampling.views import flip, mirror, patches, rotate, transpose

IMAGES = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
VIEWS = {
    "flip": (flip, lambda image: image[..., ::-1, :]),
    "mirror": (mirror, lambda image: image[..., ::-1]),
    "rotate_90": (rotate, lambda image: np.rot90(image, 1, (2, 3))),
    "rotate_180": (partial(rotate, turns=2), lambda image: np.rot90(image, 2, (2, 3))),
    "transpose": (transpose, lambda image: np.swapaxes(image, 2, 3)),
}


@pytest.mark.parametrize("view, by_numpy", VIEWS.values(), ids=VIEWS)
def test_a_view_is_what_its_name_says(view, by_numpy):
    assert np.array_equal(view(IMAGES).numpy(), by_numpy(IMAGES.numpy()))


@pytest.mark.parametrize("view", [*(view for view, _ in VIEWS.values()), patches, partial(patches, across=2, seed=1)])
def test_back_undoes_a_view(view):
    assert torch.equal(view(view(IMAGES), back=True), IMAGES)
    assert torch.equal(view(view(IMAGES, back=True)), IMAGES)


def test_patches_move_as_wholes():
    squares = torch.arange(16).view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    shuffled = patches(squares)[0, 0]
    blocks = shuffled.unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    assert (blocks == blocks[..., :1]).all()  # each 2 x 2 square is of one number
    assert sorted(blocks[..., 0].flatten().tolist()) == list(range(16))
    assert not torch.equal(shuffled, squares[0, 0])


WIDE = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)


@pytest.mark.parametrize("view", [flip, mirror, partial(rotate, turns=2), patches])
def test_images_that_are_not_square_are_seen_in_their_shape(view):
    assert view(WIDE).shape == WIDE.shape
    assert torch.equal(view(view(WIDE), back=True), WIDE)
    assert not torch.equal(view(WIDE), WIDE)


@pytest.mark.parametrize("view", [rotate, transpose])
def test_a_view_that_would_change_the_shape_is_refused(view):
    with pytest.raises(UserError, match="wants square images, and these are 8 x 12 px: take flip"):
        view(WIDE)


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(UserError, match="does not divide images of 8 px"):
        patches(IMAGES, across=3)
