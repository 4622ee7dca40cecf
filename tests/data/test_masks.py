import numpy as np
import pytest
from PIL import Image

from diffusion_lab.data.masks import mask
from diffusion_lab.errors import UserError


def test_a_box_is_new_and_the_middle_by_default():
    new = mask(8, box=[1, 2, 4, 8])
    assert new[2:8, 1:4].all()
    assert new.sum() == 6 * 3
    assert mask(8)[2:6, 2:6].all()
    assert mask(8).sum() == 16


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_white_is_new_in_a_file_of_any_size_and_mode(tmp_path, mode):
    picture = Image.new("L", (64, 64), 0)
    picture.paste(255, (32, 0, 64, 64))
    picture.convert(mode).save(tmp_path / "mask.png")
    new = mask(8, file=str(tmp_path / "mask.png"))
    assert new[:, 4:].all()
    assert not new[:, :4].any()
    assert new.dtype == np.bool_


def test_a_mask_has_the_images_shape(tmp_path):
    assert mask((8, 12))[2:6, 3:9].all() and mask((8, 12)).sum() == 4 * 6
    assert mask((8, 12), box=[9, 0, 12, 2])[:2, 9:].all()
    picture = Image.new("L", (36, 24), 0)
    picture.paste(255, (0, 0, 36, 12))
    picture.save(tmp_path / "mask.png")
    assert mask((8, 12), file=str(tmp_path / "mask.png"))[:4].all()
    with pytest.raises(UserError, match="it must be 8 wide for each 12 high"):
        mask((12, 8), file=str(tmp_path / "mask.png"))
    with pytest.raises(UserError, match="within 12 x 8"):
        mask((8, 12), box=[0, 0, 12, 9])


def test_each_mistake_is_one_line(tmp_path):
    Image.new("L", (64, 32), 255).save(tmp_path / "wide.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "white.png")
    (tmp_path / "text.png").write_text("no image")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    mistakes = {
        "must be square": {"file": str(tmp_path / "wide.png")},
        "makes everything new": {"file": str(tmp_path / "white.png")},
        "text.png cannot be read": {"file": str(tmp_path / "text.png")},
        "huge.png cannot be read": {"file": str(tmp_path / "huge.png")},
        "is not a file": {"file": str(tmp_path / "none.png")},
        "give one of them": {"file": "a", "box": [0, 0, 1, 1]},
        "whole pixels within 8 x 8": {"box": [0, 0, 9, 4]},
        "must be": {"box": [4, 0, 4, 8]},
        "left, top, right, bottom": {"box": [1, 2, 3]},
    }
    for message, arguments in mistakes.items():
        with pytest.raises(UserError, match=message):
            mask(8, **arguments)
