"""Folders of one's own images: their names, and those of their classes, in runs, reports and samples."""

from pathlib import Path

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from PIL import Image

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
    assert ponds[0].config()["data"]["name"] == "pond"


def test_jobs_on_several_folders_have_folders_of_their_own(tmp_path):
    def subdir(root: Path, *more: str) -> str:
        cfg = whole_config("train", "data=folder", f"data.root={root}", *more)
        HydraConfig.instance().set_config(cfg)
        return cfg.hydra.sweep.subdir

    names = [subdir(tmp_path / name) for name in ("a/pond", "b/pond", "lake x")]
    assert names[2].startswith("lake_x-")
    assert names[0].endswith("_data-folder") and names[0].startswith("pond-")
    assert len(set(names)) == 3
    fixed = "hydra.job.config.override_dirname.exclude_keys=[data.root]"  # as a sweep file has it for what does not vary
    assert subdir(tmp_path / "lake", fixed) == "data-folder"
    assert composed("train", "data=folder", f"data.root={tmp_path}").name == "folder"
