"""Folders of one's own images: their names, and those of their classes, in runs, reports and samples."""

from pathlib import Path

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from PIL import Image

from diffusion_lab.commands.edit import edit_images
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from diffusion_lab.reports.collect import collect
from diffusion_lab.reports.report import report
from tests.conftest import TINY, UNSCORED, composed, whole_config


def painted(folder: Path, seed: int, mode: str = "L", size: tuple[int, int] = (8, 8)) -> Path:
    """Forty images of noise in the class folders `frog` and `toad`."""
    rng = np.random.default_rng(seed)
    shape = (*size[::-1], {"L": 1, "RGB": 3, "RGBA": 4}[mode])
    for i in range(40):
        file = folder / ("frog", "toad")[i % 2] / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8).squeeze(), mode).save(file)
    return folder


OWN = (*TINY, *UNSCORED, "epochs=1", "data=folder", "data.image_size=8", "data.channels=1", "grid.count=4", "logger=csv")


@pytest.fixture(scope="module")
def ponds(tmp_path_factory) -> list[Run]:
    """A tiny run on each of three folders, two of one name."""
    root = tmp_path_factory.mktemp("ponds")
    runs = []
    for seed, name in enumerate(("a/pond", "b/pond", "lake")):
        overrides = (*OWN, f"data.root={painted(root / name, seed)}")
        train(composed("train", *overrides), str(root / f"run{seed}"), is_multirun=True)
        runs.append(Run(root / f"run{seed}"))
    return runs


@pytest.mark.ci
def test_a_report_tells_folders_apart(ponds):
    named = list(collect(ponds).runs["data"])
    assert named[2] == "lake"
    assert named[0].startswith("pond-") and named[1].startswith("pond-")
    assert len(set(named)) == 3
    assert collect(ponds).factors == ["data"]
    assert list(collect(ponds[1:]).runs["data"]) == ["pond", "lake"]  # no hash where none is needed
    written = "\n".join(
        [*(str(section.table) + " ".join(section.sentences) for section in report(ponds[:1], "image_loss", "x").sections)]
    )
    assert "Measured on pond at 8 px" in written
    assert "folder" not in written


def test_a_class_is_drawn_by_its_name(ponds, tmp_path):
    sample_checkpoint(composed("sample", f"checkpoint={ponds[0].last_checkpoint}", "count=2", "label=Toad"), str(tmp_path))
    assert len(list(tmp_path.glob("0*.png"))) == 2


def test_augmentation_that_does_not_leak_trains_the_default_network(tmp_path):
    own = (*OWN, "augment=nonleaky", f"data.root={painted(tmp_path / 'pond', 0)}")
    train(composed("train", *own), str(tmp_path / "run"), is_multirun=False)
    assert Run(tmp_path / "run").results()["choices"]["augmentation"] == "edm"


WIDE = ("data.image_size=[8,12]", "data.channels=4", "network.patch=1")


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Run:
    """A tiny run on images that are neither square nor opaque, scored by features too."""
    root = tmp_path_factory.mktemp("wide")
    scored = ("metrics/figures=[errors,kid]", "objective=kid", "metrics.samples=8", "grid.count=6", "grid.every_n_epochs=1")
    own = [word for word in OWN if word not in UNSCORED and "image_size" not in word and "channels" not in word]
    images = painted(root / "pond", 0, "RGBA", (30, 20))
    train(composed("train", *own, *WIDE, *scored, f"data.root={images}"), str(root / "run"), is_multirun=False)
    return Run(root / "run")


def test_images_neither_square_nor_opaque_are_trained_on_scored_and_drawn(wide, tmp_path):
    assert np.isfinite(wide.results()["kid"])
    for picture in ("epoch_0001", "final", "forward", "reverse", "denoised_0001"):
        with Image.open(wide.samples / f"{picture}.png") as image:
            assert (image.width, image.height) > (100, 80)
    sample_checkpoint(
        composed("sample", f"checkpoint={wide.last_checkpoint}", "label=all", "count=4", "gif=true"), str(tmp_path)
    )
    with Image.open(tmp_path / "00000.png") as image:
        assert (image.size, image.mode) == ((12, 8), "RGBA")
    assert "8 x 12 px" in str([section.sentences for section in report([wide], "kid", "x").sections])


@pytest.mark.parametrize("edit", ["sdedit", "inpaint", "superres", "anagram", "hybrid", "denoise_blur"])
def test_images_neither_square_nor_opaque_are_edited(wide, tmp_path, edit):
    Image.new("RGBA", (50, 20), (9, 99, 200, 128)).save(tmp_path / "image.png")
    images = ("edit.labels=[frog,toad]",) if edit in ("anagram", "hybrid") else (f"image={tmp_path}/image.png",)
    settings = (f"checkpoint={wide.last_checkpoint}", "sampler.steps=4", "count=1", *images)
    edit_images(composed("edit", f"edit={edit}", *settings), str(tmp_path / "edited"))
    with Image.open(next((tmp_path / "edited").glob("0*.png"))) as image:
        assert (image.size, image.mode) == ((12, 8), "RGBA")


@pytest.mark.parametrize("size", ["[8]", "[8,0]", "[8,12,3]", "x", "null", "5000"])
def test_a_size_that_is_none_is_one_line(size, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(composed("train", f"data.image_size={size}"), str(tmp_path / "run"), is_multirun=False)
    assert "must be a whole number of pixels, at most 4096, or two of them, [height,width]" in capsys.readouterr().err


def test_jobs_on_several_folders_have_folders_of_their_own(tmp_path):
    def subdir(root: Path, *more: str) -> str:
        cfg = whole_config("train", "data=folder", f"data.root={root}", *more)
        HydraConfig.instance().set_config(cfg)
        return cfg.hydra.sweep.subdir

    HydraConfig.instance().set_config(cfg := whole_config("train", "data=huggingface", "data.path=owner/lake"))
    assert cfg.hydra.sweep.subdir.startswith("lake-")
    names = [subdir(tmp_path / name) for name in ("a/pond", "b/pond", "lake x")]
    assert names[2].startswith("lake_x-")
    assert names[0].endswith("_data-folder") and names[0].startswith("pond-")
    assert len(set(names)) == 3
    fixed = "hydra.job.config.override_dirname.exclude_keys=[data.root]"  # as a sweep file has it for what does not vary
    assert subdir(tmp_path / "lake", fixed) == "data-folder"
    assert composed("train", "data=folder", f"data.root={tmp_path}").name == "folder"
