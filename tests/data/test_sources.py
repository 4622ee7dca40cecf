"""Sources: what is in them, how they split, and that images of every mode are read rightly."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_lab.data import sources
from diffusion_lab.errors import UserError
from tests.needs import SHARED_DATA, needs_shared_data


def save(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_mnist_5k_is_the_real_digits_split_four_to_one():
    source = sources.mnist_5k()
    assert (len(source.items), len(source.train), len(source.held_out)) == (5000, 4000, 1000)
    assert not set(source.train) & set(source.held_out)
    labels = np.array([label for _, label in source.items])
    assert np.bincount(labels).tolist() == [500] * 10
    assert all(80 <= n <= 120 for n in np.bincount(labels[source.held_out]))
    pixels = np.stack([np.asarray(image) for image, _ in source.items])
    assert pixels.shape == (5000, 28, 28)
    assert pixels.mean() / 255 == pytest.approx(0.1307, abs=0.003)  # MNIST's published mean


@needs_shared_data
def test_flowers_merges_all_splits():
    source = sources.flowers(str(SHARED_DATA))
    assert (len(source.train), len(source.held_out)) == (6551, 1638)
    assert len(source.class_names) == 102
    image, label = source.items[0]
    assert image.mode == "RGB"
    assert 0 <= label < 102


@needs_shared_data
def test_pets_holds_out_its_test_split():
    source = sources.pets(str(SHARED_DATA))
    lines = {
        name: len((SHARED_DATA / f"oxford-iiit-pet/annotations/{name}.txt").read_text().splitlines())
        for name in ("trainval", "test")
    }
    assert (len(source.train), len(source.held_out)) == (lines["trainval"], lines["test"])
    assert len(source.class_names) == 37


def test_torchvision_sets_are_found_under_root(tmp_path):
    """MNIST's own file format, written by hand, is found without a download."""
    import torch

    torch.manual_seed(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 6), ("t10k", 4)):
        images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8).numpy()
        sizes = np.array([count, 28, 28], dtype=">i4").tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sizes + images.tobytes())
        labels = np.arange(count, dtype=np.uint8)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + np.array([count], ">i4").tobytes() + labels.tobytes()
        )
    source = sources.torchvision_train_test(str(tmp_path), "MNIST")
    assert (source.train.tolist(), source.held_out.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])
    assert source.items[7][1] == 1
    assert len(source.class_names) == 10


def test_folder_takes_first_level_folders_as_classes(tmp_path):
    for name in ("cats/a.jpg", "cats/deep/b.PNG", "dogs/c.webp", "dogs/notes.txt"):
        path = tmp_path / name
        save(path, Image.new("RGB", (9, 7)), format="PNG") if path.suffix != ".txt" else path.write_text("no image")
    source = sources.folder(str(tmp_path))
    assert source.class_names == ["cats", "dogs"]
    assert [label for _, label in source.items] == [0, 0, 1]


def test_folder_without_subfolders_has_no_classes(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", Image.new("RGB", (4, 4)))
    source = sources.folder(str(tmp_path))
    assert source.class_names == []
    assert [label for _, label in source.items] == [-1, -1, -1]


def test_folder_errors_name_the_root_and_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"data\.root is not set"):
        sources.folder(None)
    with pytest.raises(UserError, match=r"holds no images \(looked for \.jpg"):
        sources.folder(str(tmp_path))


def test_names_come_as_paths_are_sorted_and_the_fingerprint_is_of_names_sizes_and_times(tmp_path):
    """Runs of before are known by it, and their splits follow that order; here by pathlib."""
    for name in ("b/x.png", "b.x/x.png", "b-x/x.png", "b.png", "B.PNG", "b/b/x.jpg", "ä/x.bmp", "._x.jpg"):
        save(tmp_path / name, Image.new("L", (4, 4)), format="PNG")
    for name in (".jpg", "jpg", "b/x.txt", "b/x.png."):
        (tmp_path / name).touch()
    (tmp_path / "b/gone.jpg").symlink_to("nowhere.jpg")
    paths = sorted(path for path in tmp_path.rglob("*") if path.suffix.lower() in sources.IMAGE_SUFFIXES)
    assert len(paths) == 9
    assert sources.list_images(str(tmp_path)) == [str(path.relative_to(tmp_path)) for path in paths]
    assert sources.list_images(f"{tmp_path}/") == sources.images_under(tmp_path) == sources.list_images(str(tmp_path))
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat() if path.exists() else path.lstat()
        digest.update(os.fsencode(path.relative_to(tmp_path)) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    source = sources.folder(str(tmp_path))
    assert source.fingerprint == digest.hexdigest()
    assert [source.name_of(i) for i in range(9)] == [str(path) for path in paths]


def test_fingerprint_changes_with_a_file(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", Image.new("L", (4, 4), i))
    before = sources.folder(str(tmp_path)).fingerprint
    assert sources.folder(str(tmp_path)).fingerprint == before
    save(tmp_path / "1.png", Image.new("L", (5, 5), 200))
    assert sources.folder(str(tmp_path)).fingerprint != before


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twenty images in two folders."""
    for i in range(20):
        save(tmp_path / f"photos/{'ab'[i % 2]}/{i:02d}.png", Image.new("L", (4, 4), i))
    return tmp_path / "photos"


def test_loops_of_links_are_followed_once(photos):
    (photos / "a/again").symlink_to(photos)
    (photos / "b/once more").symlink_to(photos / "a")
    (photos / "itself").symlink_to(photos / "itself")
    assert len(sources.list_images(str(photos))) == 20


def test_a_folder_behind_a_link_is_looked_into(photos, tmp_path):
    (tmp_path / "collection").mkdir()
    (tmp_path / "collection/photos").symlink_to(photos)
    assert len(sources.list_images(str(tmp_path / "collection"))) == 20


def test_what_is_no_file_is_named_and_does_not_hang(photos):
    os.mkfifo(photos / "a/pipe.jpg")
    (photos / "a/gone.jpg").symlink_to(photos / "nowhere.jpg")
    source = sources.folder(str(photos))
    said = {}
    for i in range(len(source.items)):
        try:
            source.items[i]
        except OSError as error:
            said[Path(source.name_of(i)).name] = str(error)
    assert said == {"pipe.jpg": "not a regular file", "gone.jpg": "a link that leads nowhere"}


def test_names_that_are_no_text_can_be_printed(tmp_path):
    folder = os.fsencode(tmp_path) + b"/photos/\xff\xfe"
    os.makedirs(folder)
    for i in range(3):
        with open(folder + b"/%d\xe4.png" % i, "wb") as file:
            Image.new("L", (4, 4), i).save(file, "PNG")
    save(tmp_path / "photos/b/x.png", Image.new("L", (4, 4)))
    source = sources.folder(str(tmp_path / "photos"))
    assert len({np.asarray(source.items[i][0]).item(0) for i in range(4)}) == 3
    assert source.class_names == ["\\udcff\\udcfe", "b"]
    for name in (*source.class_names, source.name_of(0), source.name_of(3)):
        assert name.encode("utf-8").decode() == name


def test_pictures_of_other_kinds_are_counted(photos, caplog):
    for name in ("a.gif", "b.GIF", "c.avif", "d.heic", "e.svg", "notes.txt"):
        (photos / name).touch()
    assert len(sources.list_images(str(photos))) == 20
    assert f"passed over in {photos}: 1 .avif, 2 .gif, 1 .heic, 1 .svg" in caplog.text


def test_a_folder_of_other_kinds_alone_says_so(tmp_path):
    (tmp_path / "a.heic").touch()
    with pytest.raises(UserError, match=r"holds no images, and 1 \.heic that are not read \(looked for"):
        sources.list_images(str(tmp_path))


def test_a_subfolder_that_cannot_be_opened_is_named(photos, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "b":  # root may open anything, so the rights are made up
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=rf"{photos}/b cannot be opened: Permission denied"):
        sources.list_images(str(photos))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('0.png,"a fox, red, at night"\nmore/0.png,a boat', ["a fox, red, at night", "a boat"]),  # one name, two folders
        ("0.png,a fox, red\nmore/0.png,a boat", "row 2 has more columns than the first: a text with a comma wants quotes"),
        ("0.png,a fox\n0.png,a boat\nmore/0.png,a boat", "names 0.png more than once"),
    ],
)
def test_captions_keep_their_commas_and_belong_to_one_image(tmp_path, rows, said):
    for name in ("0.png", "more/0.png"):
        save(tmp_path / name, Image.new("RGB", (8, 8)))
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{rows}\n")
    if isinstance(said, list):
        assert sources.captioned(str(tmp_path)).class_names == said
    else:
        with pytest.raises(UserError, match=said):
            sources.captioned(str(tmp_path))


ROWS = [{"file_name": "0.png", "text": "a fox, red"}, {"file_name": "more/0.png", "text": "a boat"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metadata.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n", None),
        ("metadata.json", json.dumps(ROWS), None),
        ("metadata.jsonl", json.dumps(ROWS[0])[:-3], "metadata.jsonl is no JSON"),
        ("metadata.json", json.dumps({"0.png": "a fox"}), "metadata.json must be a list of rows"),
        ("metadata.json", json.dumps([1, 2]), "must have the columns file_name and text"),
        ("metadata.json", json.dumps([{"file_name": "0.png", "text": 3}]), "must have the columns file_name and text"),
        ("metadata.json", json.dumps(ROWS[:1]), "more/0.png has no caption, in 0.txt or in metadata.csv"),
    ],
)
def test_captions_are_read_from_json_too(tmp_path, name, text, said):
    for image in ("0.png", "more/0.png"):
        save(tmp_path / image, Image.new("RGB", (8, 8)))
    (tmp_path / name).write_text(text)
    if said is None:
        assert sources.captioned(str(tmp_path)).class_names == ["a fox, red", "a boat"]
        (tmp_path / "metadata.csv").write_text("file_name,text\n")
        said = "both tell captions: keep one of them"
    with pytest.raises(UserError, match=said):
        sources.captioned(str(tmp_path))


def test_other_images_in_the_same_place_have_another_fingerprint(photos):
    """Of the same name, size and number: touched is enough."""
    before = sources.folder(str(photos)).fingerprint
    os.utime(photos / "a/00.png", ns=(1, 1))
    assert sources.folder(str(photos)).fingerprint != before


ORANGE = (250, 128, 10)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.new("RGB", (6, 6), ORANGE), ".png", ORANGE),
        (Image.new("L", (6, 6), 77), ".png", (77, 77, 77)),
        (Image.new("RGB", (6, 6), ORANGE).convert("CMYK"), ".jpg", ORANGE),
        (Image.new("RGB", (6, 6), ORANGE).convert("P", palette=Image.Palette.ADAPTIVE), ".png", ORANGE),
        (Image.new("RGBA", (6, 6), (*ORANGE, 255)), ".png", ORANGE),
        (Image.new("RGBA", (6, 6), (*ORANGE, 0)), ".png", (255, 255, 255)),
        (Image.new("LA", (6, 6), (0, 128)), ".png", (127, 127, 127)),
        (Image.new("1", (6, 6), 1), ".png", (255, 255, 255)),
        (Image.fromarray(np.full((6, 6), 32768, dtype=np.uint16)), ".png", (128, 128, 128)),
    ],
    ids=["rgb", "grey", "cmyk", "palette", "opaque", "transparent", "half-transparent", "one-bit", "16-bit"],
)
def test_every_mode_is_read_rightly(tmp_path, image, suffix, expected):
    read = sources.read_image(save(tmp_path / f"image{suffix}", image), channels=3)
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read, dtype=int) - expected).max() <= 3  # JPEG rounds


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 4), "black")
    image.paste((255, 255, 255), (0, 0, 4, 4))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    read = np.asarray(sources.read_image(save(tmp_path / "turned.png", image, exif=exif), channels=1))
    assert read.shape == (8, 4)
    assert read[:4].min() == 255  # left has become top
    assert read[4:].max() == 0


def test_grey_and_transparent_channels(tmp_path):
    path = save(tmp_path / "image.png", Image.new("RGBA", (4, 4), (*ORANGE, 100)))
    assert sources.read_image(path, channels=1).mode == "L"
    assert sources.read_image(path, channels=4).getpixel((0, 0)) == (*ORANGE, 100)


def test_an_image_that_is_large_or_odd_is_read_in_silence(tmp_path):
    Image.new("1", (12_000, 8_000)).save(tmp_path / "large.png")
    cut = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01"
    Image.new("L", (8, 8)).save(tmp_path / "odd.jpg", exif=cut)
    read = "import sys; from pathlib import Path; from diffusion_lab.data.sources import read_image\n"
    read += "for name in sys.argv[1:]: read_image(Path(name), 1)"
    files = [str(tmp_path / name) for name in ("large.png", "odd.jpg")]
    done = subprocess.run([sys.executable, "-c", read, *files], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
