"""Configs are composed as a user would; caches go to a temporary folder that the whole session shares."""

import copy
import functools
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of two threads each fight for two cores

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.hardware import has_compiler

PROJECT = Path(__file__).parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"

# One short run on a few real digits: every part, in seconds.
TINY = (
    "epochs=2",
    "batch_size=32",
    "data.max_images=160",
    "network.widths=[16,16]",
    "metrics.samples=24",
    "sampler.steps=3",
    "guidance=none",
    "grid.count=10",
    "grid.every_n_epochs=1",
    "trainer.log_every_n_steps=2",
)

needs_shared_data = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"REAL PHOTOGRAPHS NOT TESTED: {SHARED_DATA} is absent"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED ON A GPU: there is none")
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="torch.compile NOT TESTED: there is no C++ compiler")


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ["DIFFUSION_LAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return Path(os.environ["DIFFUSION_LAB_CACHE"])


@functools.cache  # half a second each
def _composed(name: str, *overrides: str) -> DictConfig:
    prepare_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose(name, list(overrides), return_hydra_config=True)


def composed(name: str, *overrides: str) -> DictConfig:
    """The config that `python src/<name>.py <overrides>` composes, with Hydra's own part set aside as it does."""
    cfg = copy.deepcopy(_composed(name, *overrides))
    HydraConfig.instance().set_config(cfg)
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    OmegaConf.set_struct(cfg, True)
    return cfg
