"""Decoding: crop, resize, cache hits, broken files."""

import errno
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from diffusion_lab.data.cache import decode
from diffusion_lab.data.sources import Source, folder, mnist_5k
from diffusion_lab.errors import UserError, user_error_in


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


@pytest.mark.parametrize("antialias", [True, False])
def test_images_that_are_not_square_are_cropped_to_their_shape(photos, tmp_path, antialias):
    result = decode(folder(str(photos)), "photos", [12, 24], 3, str(tmp_path / "cache"), antialias=antialias)
    assert result.images.shape[1:] == (12, 24, 3)
    assert result.key.startswith("photos-12x24px-")
    mode = transforms.InterpolationMode.BICUBIC if antialias else transforms.InterpolationMode.BILINEAR
    for i, path in enumerate(sorted(photos.iterdir())):
        image = Image.open(path)
        width, height = image.size
        crop = [min(height, width // 2), min(width, 2 * height)]
        tensor = transforms.pil_to_tensor(transforms.center_crop(image, crop)).float()
        expected = transforms.resize(tensor, [12, 24], mode, antialias=antialias).clamp(0, 255).permute(1, 2, 0)
        if width % 2 == height % 2 == 0 and not (width - crop[1]) % 4 and not (height - crop[0]) % 4:
            assert np.abs(result.images[i].astype(int) - expected.numpy()).max() < 2


def test_without_antialias_is_torchvisions_plain_bilinear(photos, tmp_path):
    result = decoded(photos, tmp_path, antialias=False)
    image = Image.open(photos / "1.png")
    tensor = transforms.pil_to_tensor(transforms.center_crop(image, [40, 40]))
    expected = transforms.resize(tensor, [16, 16], antialias=False)
    assert np.abs(result.images[1].astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def untouchable(count: int) -> list:
    class Untouchable(list):
        def __getitem__(self, i):
            raise AssertionError("decoded again")

    return Untouchable(range(count))


def test_second_time_nothing_is_decoded(photos, tmp_path):
    first = decoded(photos, tmp_path)
    source = replace(folder(str(photos)), items=untouchable(6))
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


def test_broken_files_are_named_and_nothing_passes_for_whole(photos, tmp_path):
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_text("this is no image")
    whole = (photos / "5.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"3 broken image\(s\): .*cut\.png.*empty\.jpg.*text\.jpg.*data\.on_error=skip"):
        decoded(photos, tmp_path)
    assert all(path.name.startswith(".") for path in (tmp_path / "cache").iterdir())


def test_what_was_decoded_beside_a_broken_file_is_not_decoded_again_to_skip_it(photos, tmp_path):
    (photos / "2.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 broken image\(s\): .*2\.png \(cannot identify"):
        decoded(photos, tmp_path)
    source = replace(folder(str(photos)), items=untouchable(6))
    assert len(decode(source, "photos", 16, 3, str(tmp_path / "cache"), on_error="skip").images) == 5
    assert not list((tmp_path / "cache").glob(".*"))


def test_skip_leaves_broken_files_out_and_lists_them(photos, tmp_path, caplog):
    (photos / "2.png").write_bytes(b"")
    result = decoded(photos, tmp_path, on_error="skip")
    assert len(result.images) == 5
    assert sorted([*result.train, *result.held_out]) == [0, 1, 2, 3, 4]
    assert "left out 1 broken image:" in caplog.text
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


def spoil(file: Path, how: str, seed: int) -> None:
    content = bytearray(file.read_bytes())
    rng = random.Random(seed)
    if how == "emptied":
        content.clear()
    elif how == "cut":
        del content[rng.randrange(len(content)) :]
    elif how == "a bit turned":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "in the header":  # of NumPy's format, or of the zip
        content[rng.randrange(128)] ^= 1 << rng.randrange(8)
    elif how == "text":
        content[:] = b"this is something else"
    file.unlink()
    if how == "a folder":
        file.mkdir()
    elif how != "removed":
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["images.npy", "beside.npz"])
def test_damage_is_noticed_and_mended(photos, tmp_path, name, caplog):
    """Bits turned anywhere too: figures of other pixels or labels would be wrong without a word."""
    first = decoded(photos, tmp_path)
    folder = tmp_path / "cache" / first.key
    images, labels = np.array(first.images), np.array(first.labels)
    hows = ["emptied", "removed", "text", "a folder", *["cut"] * 6, *["a bit turned"] * 12, *["in the header"] * 12]
    noticed = 0
    for seed, how in enumerate(hows):
        spoil(folder / name, how, seed)
        caplog.clear()
        again = decoded(photos, tmp_path)
        assert (again.images == images).all(), how
        assert (again.labels == labels).all(), how
        noticed += f"{folder} is damaged: its images are decoded again" in caplog.text
    assert noticed > len(hows) * 0.6  # some bits of a zip mean nothing, a date among them
    assert sorted(path.name for path in folder.parent.iterdir()) == [first.key]


def test_a_label_that_is_another_is_damage(photos, tmp_path, caplog):
    folder = tmp_path / "cache" / decoded(photos, tmp_path).key
    content = (folder / "beside.npz").read_bytes()
    place = content.index(np.full(6, -1, dtype=np.int64).tobytes())
    (folder / "beside.npz").write_bytes(content[:place] + b"\x00" * 8 + content[place + 8 :])
    assert (decoded(photos, tmp_path).labels == -1).all()
    assert "is damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_one_line_before_the_work(photos, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    source = replace(folder(str(photos)), items=[None] * 6)
    for place in (file, file / "below"):
        with pytest.raises(UserError, match=f"{file} is not a folder, and data.cache_dir={place}: set it, or DIFFUSION"):
            decode(source, "photos", 16, 3, str(place))
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(UserError, match=r"cannot be written to, and data\.cache_dir="):
        decode(source, "photos", 16, 3, str(tmp_path / "cache"))


def test_a_full_disk_leaves_nothing_half_written(photos, tmp_path, monkeypatch):
    def full(file, *_, **__) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space") as caught:
        decoded(photos, tmp_path)
    assert user_error_in(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_copies_in_both_splits_are_counted_and_said(photos, tmp_path, caplog):
    for i in range(6):
        shutil.copyfile(photos / "0.png", photos / f"copy{i}.png")
    result = decode(folder(str(photos), held_out=0.5), "photos", 16, 3, str(tmp_path / "cache"))
    copies = {0, *range(6, 12)}  # in the order of names: 0.png to 5.png, then the copies
    held_out = len(copies & set(result.held_out))
    assert 0 < held_out < 7
    assert f"{held_out} of 6 held-out images are also among those to train on, pixel by pixel" in caplog.text


def test_other_images_are_not_said_to_be_copies(photos, tmp_path, caplog):
    decoded(photos, tmp_path)
    assert caplog.text == ""
