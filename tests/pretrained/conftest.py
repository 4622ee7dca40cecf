"""Tiny pipelines with random weights, written once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusion_lab.pretrained import tiny


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """folder_of("sd3"): the folder of that tiny pipeline."""
    root = tmp_path_factory.mktemp("pipelines")

    def written(family: str) -> Path:
        return root / family if (root / family).is_dir() else tiny.save(family, root / family)

    return written
