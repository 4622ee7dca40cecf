"""Configs are composed as a user would; caches go to a temporary folder that the whole session shares."""

import copy
import functools
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of two threads each fight for two cores

import omegaconf.base
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from diffusion_lab.commands.composition import prepare_hydra

omegaconf.base.parse = functools.cache(omegaconf.base.parse)  # of the same few interpolations, in hundreds of configs
PROJECT = Path(__file__).parents[1]

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
    "grid.every_n_epochs=9",
    "trainer.log_every_n_steps=2",
    "rehearsal=false",
)

# For runs whose figures and pictures nobody looks at: half of what a tiny run costs.
UNSCORED = ("metrics/figures=[errors]", "objective=noise_loss")


class MachineDied(BaseException):
    """Ends a run where it is, as a machine does: an Exception in the code of a test is taken for a user's mistake."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("NOT TESTED ON A GPU: there is none")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def cache_dir(shared_folder: Path) -> Path:
    os.environ["DIFFUSION_LAB_CACHE"] = str(shared_folder / "cache")
    return shared_folder / "cache"


@functools.cache  # half a second each
def _composed(name: str, *choices: str) -> DictConfig:
    prepare_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose(name, list(choices), return_hydra_config=True)


def whole_config(name: str, *overrides: str) -> DictConfig:
    """What Hydra composes of them, its own part included. Which choices it is made of takes it half a second, once for all
    tests; settings are put into a copy, by its own function and after all choices, as it does."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    settings = [override for override in parsed if _is_setting(override)]
    cfg = copy.deepcopy(_composed(name, *(override.input_line for override in parsed if override not in settings)))
    ConfigLoaderImpl._apply_overrides_to_config(settings, cfg)
    cfg.hydra.overrides.task = list(overrides)
    own = [override for override in parsed if not override.is_hydra_override()]
    cfg.hydra.job.override_dirname = get_overrides_dirname(overrides=own, **cfg.hydra.job.config.override_dirname)
    return cfg


def _is_setting(override: Override) -> bool:
    """Of what is there already, and no choice; what is of Hydra, or adds or removes something, is left to it."""
    key = override.key_or_group
    plain = override.type == OverrideType.CHANGE and not override.is_hydra_override()
    return plain and not (PROJECT / "conf" / key).is_dir()


def composed(name: str, *overrides: str) -> DictConfig:
    """The config that `python src/<name>.py <overrides>` composes, with Hydra's own part set aside as it does."""
    cfg = whole_config(name, *overrides)
    HydraConfig.instance().set_config(cfg)
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    OmegaConf.set_struct(cfg, True)
    return cfg
