"""Data sets of the package `datasets`, where it is installed: opened from disk, without a network."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_lab.data import huggingface, sources
from diffusion_lab.data.cache import decode
from diffusion_lab.errors import UserError


@pytest.fixture
def images(tmp_path) -> Path:
    """Twenty images of two classes in folders."""
    for i in range(20):
        file = tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 10, 3), i, dtype=np.uint8)).save(file)
    return tmp_path / "pets"


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(found.config, "HF_HUB_OFFLINE", True)
    return found


def written(datasets, images: Path, folder: Path) -> Path:
    """The same images as a data set with a test split, captions and classes, as it saves itself."""
    files = sorted(map(str, images.rglob("*.png")))
    rows = {"picture": files, "text": [f"number {i % 3}" for i in range(20)], "kind": [i // 10 for i in range(20)]}
    whole = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    whole = whole.cast_column("kind", datasets.ClassLabel(names=["cat", "dog"]))
    splits = {"train": whole.select(range(4, 20)), "test": whole.select(range(4))}
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return folder


def test_a_folder_is_what_data_folder_finds_in_it(datasets, images, tmp_path):
    found, wanted = huggingface.dataset(str(images)), sources.folder(str(images))
    assert found.class_names == wanted.class_names == ["cat", "dog"]
    assert sorted(found.train) == sorted(wanted.train)
    theirs, ours = (decode(each, "pets", 8, 3, str(tmp_path / "decoded")) for each in (found, wanted))
    assert (theirs.images == ours.images).all()
    assert (theirs.labels == ours.labels).all()


def test_a_test_split_is_held_out_and_a_column_of_texts_can_be_the_classes(datasets, images, tmp_path):
    path = str(written(datasets, images, tmp_path / "saved"))
    found = huggingface.dataset(path)
    assert (len(found.train), len(found.held_out), found.class_names) == (16, 4, ["cat", "dog"])
    assert [found.items[i][1] for i in (0, 15, 16)] == [0, 1, 0]
    assert np.asarray(found.items[int(found.held_out[0])][0]).max() == 0  # cat/00.png
    captions = huggingface.dataset(path, label_column="text", channels=1)
    assert sorted(captions.class_names) == ["number 0", "number 1", "number 2"]
    assert captions.items[0][0].mode == "L"
    with pytest.raises(UserError, match=r"no split valid: take data.source.split=train\|test"):
        huggingface.dataset(path, split="valid")
    with pytest.raises(UserError, match="no column x: it has picture, text, kind"):
        huggingface.dataset(path, image_column="x")


def test_shards_of_webdataset_are_read_as_they_are(datasets, images, tmp_path):
    (tmp_path / "shards").mkdir()
    files = sorted(images.rglob("*.png"))
    for shard in range(2):
        with tarfile.open(tmp_path / f"shards/train-{shard:04d}.tar", "w") as tar:
            for file in files[10 * shard : 10 * shard + 10]:
                for suffix, content in (("png", file.read_bytes()), ("cls", b"%d" % shard)):
                    entry = tarfile.TarInfo(f"{file.stem}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    found = huggingface.dataset(str(tmp_path / "shards"), label_column="cls")
    assert found.class_names == ["0", "1"]
    assert [np.asarray(found.items[i][0]).max() for i in range(20)] == [*range(0, 20, 2), *range(1, 20, 2)]  # cats first
    assert [found.items[i][1] for i in range(20)] == [0] * 10 + [1] * 10


def test_the_fingerprint_is_of_the_content(datasets, images):
    first = huggingface.dataset(str(images)).fingerprint
    assert huggingface.dataset(str(images)).fingerprint == first
    Image.new("RGB", (8, 10)).save(images / "dog/99.png")
    assert huggingface.dataset(str(images)).fingerprint != first


def test_mistakes_are_one_line(datasets, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty cannot be opened"):
        huggingface.dataset(str(tmp_path / "empty"))


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(UserError, match=r"data\.path is not set"):
        huggingface.dataset(None)
    monkeypatch.setattr(huggingface, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package datasets: pip install 'diffusion-lab\[huggingface\]'"):
        huggingface.dataset("somewhere")


def saved(datasets, folder: Path, images: Path, **splits) -> str:
    """A data set of two splits, each (labels, names of the classes or None)."""
    made, files = {}, iter(sorted(map(str, images.rglob("*.png"))))
    for name, (labels, names) in splits.items():
        part = datasets.Dataset.from_dict({"image": [next(files) for _ in labels], "label": labels})
        part = part.cast_column("image", datasets.Image())
        made[name] = part.cast_column("label", datasets.ClassLabel(names=names)) if names else part
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return str(folder)


def test_a_class_is_the_same_in_each_split_by_its_name(datasets, images, tmp_path):
    path = saved(datasets, tmp_path / "s", images, train=([0, 1, -1], ["cat", "dog"]), test=([0, 1], ["dog", "cat"]))
    found = huggingface.dataset(path)
    assert found.class_names == ["cat", "dog"]
    assert [found.items[i][1] for i in range(5)] == [0, 1, -1, 1, 0]
    whole = saved(datasets, tmp_path / "w", images, train=([0, 1], ["cat", "dog"]), test=([0, 1], ["cat", "emu"]))
    with pytest.raises(UserError, match="label has the class emu in another split than that which is trained on"):
        huggingface.dataset(whole)
    unused = saved(datasets, tmp_path / "u", images, train=([0, 1], ["cat", "dog"]), test=([0, 0], ["cat", "emu"]))
    assert [huggingface.dataset(unused).items[i][1] for i in range(4)] == [0, 1, 0, 0]


@pytest.mark.parametrize("label", [2, 7, -2, -100])
def test_a_number_that_no_class_has_gets_one_line(datasets, images, tmp_path, label):
    path = tmp_path / "s"
    saved(datasets, path, images, train=([0, 1, 1], ["cat", "dog"]))
    part = datasets.load_from_disk(str(path))["train"]
    table = part.data.table.set_column(1, "label", [[0, 1, label]])  # which ClassLabel's own checks never see
    datasets.Dataset(table, info=part.info).save_to_disk(str(tmp_path / "wrong"))
    with pytest.raises(UserError, match=rf"split train: label has the number {label}, of 2 classes"):
        huggingface.dataset(str(tmp_path / "wrong"))


def test_columns_that_hold_no_classes_or_are_missing_get_one_line(datasets, images, tmp_path):
    path = saved(datasets, tmp_path / "s", images, train=([0.5, 1.0], None))
    for column, kind in (("image", "Image"), ("label", "Value")):
        with pytest.raises(UserError, match=f"split train: {column} holds {kind}, no classes"):
            huggingface.dataset(path, label_column=column)
    lists = saved(datasets, tmp_path / "l", images, train=([[0, 1], [1]], None))
    with pytest.raises(UserError, match=r"label holds .*, no classes"):
        huggingface.dataset(lists, label_column="label")
    path = saved(datasets, tmp_path / "w", images, train=([0, 1], ["a", "b"]), test=([0], ["a", "b"]))
    whole = datasets.load_from_disk(path)
    for column in ("label", "image"):
        lacking = datasets.DatasetDict({"train": whole["train"], "test": whole["test"].remove_columns(column)})
        lacking.save_to_disk(str(tmp_path / f"without_{column}"))
        with pytest.raises(UserError, match=f"split test has no column {column}: it has"):
            huggingface.dataset(str(tmp_path / f"without_{column}"))


def test_pipes_and_files_of_elsewhere_are_no_images(datasets, images, tmp_path):
    path = saved(datasets, tmp_path / "s", images, train=([0, 1], None))
    os.mkfifo(tmp_path / "s/pipe.png")
    for file, said in ((tmp_path / "s/pipe.png", "not a regular file"), (images / "cat/00.png", "outside of the data set")):
        rows = {"image": [{"bytes": None, "path": str(file)}] * 2}
        other = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
        found = huggingface.Rows([other], "image", [0, 0], 3, path)
        with pytest.raises(OSError, match=said):
            found[0]
