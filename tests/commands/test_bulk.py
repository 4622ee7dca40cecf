"""Many images of `sample.py`: written while they are drawn, gone on with after a kill, and read by others."""

import json
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from diffusion_lab.commands import bulk
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.data import kept
from diffusion_lab.sampling.drawing import Drawing
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed

SETTINGS = ("sampler.steps=2", "batch_size=4", "count=18")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


@pytest.fixture
def sample(checkpoint):
    def sampled(folder, *overrides: str):
        sample_checkpoint(composed("sample", f"checkpoint={checkpoint}", *SETTINGS, *overrides), str(folder))
        return folder

    return sampled


@pytest.fixture
def batches(monkeypatch):
    """The batches that are drawn, as weak references; `batches.fatal` is that at which ctrl-C comes."""
    images = Drawing.images

    class Seen(list):
        fatal = None

    seen = Seen()

    def watched(*arguments):
        for batch in images(*arguments):
            if len(seen) == seen.fatal:
                raise KeyboardInterrupt
            seen.append(weakref.ref(batch))
            yield batch
            del batch

    monkeypatch.setattr(Drawing, "images", watched)
    monkeypatch.setattr(kept, "SAVED_EVERY_S", -1)
    return seen


def pngs(folder) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("0*.png"))]


def npz(folder) -> dict:
    with np.load(folder / "samples.npz") as file:
        return dict(file)


def test_one_file_of_all_holds_what_single_ones_do(sample, tmp_path):
    """As ADM's evaluator reads it: uint8, three channels, of digits too."""
    single, whole = sample(tmp_path / "single"), sample(tmp_path / "whole", "save_as=npz")
    images = npz(whole)
    assert images["arr_0"].dtype == np.uint8
    assert images["arr_0"].shape == (18, 28, 28, 3)
    assert np.array_equal(images["arr_0"], [np.asarray(Image.open(file)) for file in sorted(single.glob("0*.png"))])
    assert images["arr_1"].tolist() == [*range(10), *range(8)]
    assert sorted(file.name for file in whole.iterdir()) == ["grid.png", "sample.json", "samples.npz"]
    assert (whole / "grid.png").read_bytes() == (single / "grid.png").read_bytes()
    assert "arr_1" not in npz(sample(tmp_path / "unlabelled", "save_as=npz", "label=-1"))


def test_a_png_is_torchvisions(tmp_path):
    torch.manual_seed(0)
    for channels in (1, 3, 4):
        images = torch.rand(3, channels, 9, 7)
        writer = bulk.Pngs(tmp_path / str(channels), goes_on=False)
        writer.add(images, first=5)
        writer.finish(None)
        for i, image in enumerate(images):
            save_image(image, tmp_path / "theirs.png")
            assert (tmp_path / f"{channels}/{5 + i:05d}.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()


def test_transparency_lies_over_white_where_there_are_three_channels(tmp_path):
    writer = bulk.Npz(tmp_path, goes_on=False)
    writer.add(torch.tensor([0.0, 0.5, 1.0, 0.25]).view(1, 4, 1, 1), first=0)
    writer.finish(None)
    assert npz(tmp_path)["arr_0"].flatten().tolist() == [191, 223, 255]


@pytest.mark.parametrize("save_as", ["png", "npz"])
def test_few_batches_are_in_memory_at_any_time(sample, tmp_path, batches, monkeypatch, save_as):
    alive = []
    of = {"png": bulk.Pngs, "npz": bulk.Npz}[save_as]
    add = of.add
    monkeypatch.setattr(
        of, "add", lambda self, *rest: alive.append(sum(map(bool, (b() is not None for b in batches)))) or add(self, *rest)
    )
    sample(tmp_path, "count=40", f"save_as={save_as}")
    assert len(alive) == 10
    assert max(alive) <= 2


@pytest.mark.parametrize("save_as", ["png", "npz"])
def test_what_was_interrupted_goes_on_and_is_the_same(sample, tmp_path, batches, save_as):
    whole = sample(tmp_path / "whole", f"save_as={save_as}")
    drawn, batches.fatal = len(batches), len(batches) + 2
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "broken", f"save_as={save_as}")
    assert not (tmp_path / "broken/samples.npz").exists()
    batches.fatal = None
    batches.clear()
    broken = sample(tmp_path / "broken", f"save_as={save_as}")
    assert (drawn, len(batches)) == (5, 3)
    for file in whole.iterdir():
        if save_as == "npz" and file.name == "samples.npz":
            assert all(np.array_equal(npz(broken)[key], array) for key, array in npz(whole).items())
        else:
            assert (broken / file.name).read_bytes() == file.read_bytes()
    assert len(list(broken.iterdir())) == len(list(whole.iterdir()))
    sample(tmp_path / "broken", f"save_as={save_as}")  # typed again
    assert len(batches) == 3


def test_images_of_another_drawing_are_neither_gone_on_with_nor_left(sample, tmp_path, batches):
    batches.fatal = 3
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "drawn", "seed=1")
    (tmp_path / "drawn/mine.png").write_text("mine")
    batches.fatal = None
    drawn = sample(tmp_path / "drawn", "seed=2", "count=6")
    assert pngs(drawn) == pngs(sample(tmp_path / "alone", "seed=2", "count=6"))
    assert (drawn / "mine.png").read_text() == "mine"
    assert json.loads((drawn / "sample.json").read_text())["count"] == 6
    sample(tmp_path / "drawn", "seed=2", "count=6", "save_as=npz")
    assert not pngs(drawn)


def test_a_mistake_leaves_the_images_of_before(sample, tmp_path, monkeypatch, capsys):
    before = pngs(sample(tmp_path / "drawn"))
    monkeypatch.setattr("diffusion_lab.spaces.pixels.Pixels.decode", lambda self, images: 1 / 0)
    with pytest.raises(SystemExit):
        sample(tmp_path / "drawn", "seed=3")
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert pngs(tmp_path / "drawn") == before


def test_each_scale_goes_on_where_it_was(sample, tmp_path, batches):
    scales = ("guidance.scale=[1,3]", "count=6", "save_as=npz")
    whole = sample(tmp_path / "whole", *scales)
    batches.clear()
    batches.fatal = 3
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "broken", *scales)
    batches.fatal = None
    broken = sample(tmp_path / "broken", *scales)
    assert len(batches) == 4
    for scale in ("scale_1", "scale_3"):
        assert np.array_equal(npz(broken / scale)["arr_0"], npz(whole / scale)["arr_0"])


def test_the_grid_shows_the_first_of_many(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusion_lab.commands.sample.SHOWN", 9)
    few, many = sample(tmp_path / "few", "count=9"), sample(tmp_path / "many")
    assert (few / "grid.png").read_bytes() == (many / "grid.png").read_bytes()
    with Image.open(sample(tmp_path / "all", "label=all", "count=40") / "grid.png") as grid:
        assert int(grid.text["grid"].split()[-1]) == 4  # columns: two whole rows
        assert grid.height < grid.width
