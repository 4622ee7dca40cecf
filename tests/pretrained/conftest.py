"""Tiny pipelines with random weights, written once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusion_lab.pretrained import tiny


@pytest.fixture(scope="session")
def folder_of(shared_folder: Path) -> Callable[[str], Path]:
    """folder_of("sd3"): the folder of that tiny pipeline."""
    root = shared_folder / "pipelines"

    def written(family: str) -> Path:
        with FileLock(shared_folder / f"{family}.lock"):
            return root / family if (root / family).is_dir() else tiny.save(family, root / family)

    return written
