"""Decoding: crop, resize, cache hits, broken files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from diffusion_lab.data.cache import decode
from diffusion_lab.data.sources import Source, folder, mnist_5k
from diffusion_lab.errors import UserError


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six smooth colour images of mixed size, without extremes: Pillow clips between its passes."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i, size in enumerate([(40, 40), (60, 40), (40, 70), (90, 50), (34, 48), (128, 64)]):
        Image.fromarray(rng.integers(60, 200, (8, 8, 3), dtype=np.uint8)).resize(size).save(root / f"{i}.png")
    return root


def decoded(root: Path, tmp_path: Path, **options):
    return decode(folder(str(root)), "photos", 16, 3, str(tmp_path / "cache"), **options)


def test_centre_crop_and_antialiased_resize_agree_with_torchvision(photos, tmp_path):
    result = decoded(photos, tmp_path)
    for i, path in enumerate(sorted(photos.iterdir())):
        image = Image.open(path)
        cropped = transforms.center_crop(image, [min(image.size)] * 2)
        expected = transforms.resize(
            transforms.pil_to_tensor(cropped).float(), [16, 16], transforms.InterpolationMode.BICUBIC, antialias=True
        )
        difference = expected.clamp(0, 255) - torch.from_numpy(result.images[i].astype(np.float32)).permute(2, 0, 1)
        assert difference.abs().max() < 2  # Pillow rounds between its two passes and at the end


def test_without_antialias_is_torchvisions_plain_bilinear(photos, tmp_path):
    result = decoded(photos, tmp_path, antialias=False)
    image = Image.open(photos / "1.png")
    tensor = transforms.pil_to_tensor(transforms.center_crop(image, [40, 40]))
    expected = transforms.resize(tensor, [16, 16], antialias=False)
    assert np.abs(result.images[1].astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_second_time_nothing_is_decoded(photos, tmp_path):
    first = decoded(photos, tmp_path)

    class Untouchable(list):
        def __getitem__(self, i):
            raise AssertionError("decoded again")

    source = replace(folder(str(photos)), items=Untouchable(range(6)))
    second = decode(source, "photos", 16, 3, str(tmp_path / "cache"))
    assert second.key == first.key
    assert (second.images == first.images).all()


def test_other_settings_and_other_content_have_other_keys(photos, tmp_path):
    keys = {
        decoded(photos, tmp_path).key,
        decoded(photos, tmp_path, antialias=False).key,
        decoded(photos, tmp_path, max_images=4).key,
    }
    Image.new("RGB", (20, 20)).save(photos / "7.png")
    keys.add(decoded(photos, tmp_path).key)
    assert len(keys) == 4


def test_max_images_keeps_both_splits_and_all_classes(tmp_path):
    result = decode(mnist_5k(), "mnist_5k", 28, 1, str(tmp_path), max_images=500)
    assert len(result.images) == 500
    assert 80 <= len(result.held_out) <= 120
    assert (np.bincount(result.labels) > 30).all()


def test_broken_files_are_named_and_nothing_is_written(photos, tmp_path):
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_text("this is no image")
    whole = (photos / "5.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"3 broken image\(s\): .*cut\.png.*empty\.jpg.*text\.jpg.*data\.on_error=skip"):
        decoded(photos, tmp_path)
    assert not (tmp_path / "cache").exists()


def test_skip_leaves_broken_files_out_and_lists_them(photos, tmp_path, caplog):
    (photos / "2.png").write_bytes(b"")
    result = decoded(photos, tmp_path, on_error="skip")
    assert len(result.images) == 5
    assert sorted([*result.train, *result.held_out]) == [0, 1, 2, 3, 4]
    assert "left out 1 broken images" in caplog.text
    with pytest.raises(UserError, match=r"2\.png"):  # a cache made while skipping does not hide the broken file
        decoded(photos, tmp_path)


def test_the_first_held_out_images_are_like_all_also_where_files_are_sorted_by_class(tmp_path):
    """As torchvision has the pets: by breed. Per-batch KID would compare generated images with a breed or two."""
    labels = np.repeat(np.arange(20), 30)
    items = [(Image.fromarray(np.full((4, 4, 3), label, dtype=np.uint8)), int(label)) for label in labels]
    order = np.arange(600)
    for held_out in (order[1::2], order[:0:-2]):  # in rising and in falling order
        source = Source(items, str, [str(label) for label in range(20)], order[::2], held_out, "sorted")
        decoded = decode(source, "sorted", 4, 3, str(tmp_path))
        first = decoded.labels[decoded.held_out[:64]]
        assert len(set(first)) > 15
        assert sorted(decoded.held_out) == list(range(1, 600, 2))
        again = decode(source, "sorted", 4, 3, str(tmp_path))
        assert (again.held_out == decoded.held_out).all()
