"""Command lines of train.py with settings that are wrong, absurd, or neither."""

import functools
from pathlib import Path
from random import Random

from omegaconf import DictConfig

from diffusion_lab.commands import train
from diffusion_lab.commands.composition import compose_config
from diffusion_lab.conf_path import CONF
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from diffusion_lab.tasks import fitting
from diffusion_lab.tasks.fitting import quiet_lightning
from diffusion_lab.torture.trial import Outcome, tried

TINY = (
    *("epochs=1", "batch_size=8", "data.max_images=40", "network.widths=[8,8]", "metrics.samples=8", "sampler.steps=2"),
    *("grid.count=4", "logger=csv", "guidance=none", "trainer.log_every_n_steps=1"),
)
VALUES = (
    *("xyz", "''", "-1", "0", "0.5", "-0.5", "1e30", "nan", "inf", "true", "null", "[]", "[1]", "[a,b]", "{a:1}", "{}"),
    *(str(2**70), "/dev/null", "../..", "'[/b]'", "äöü", "'${seed}'", "'${nosuch}'", "'${oc.env:HOME}'", "None"),
)
CHOICES = (
    "network",
    "schedule",
    "target",
    "loss",
    "weighting",
    "times",
    "level",
    "space",
    "sampler",
    "optimizer",
    "augmentation",
)
LEFT_OUT = ("choices", "name", "trial", "init_from", "compile")  # compile=true takes minutes; files are tried elsewhere


def try_one(random: Random) -> Outcome:
    """A tiny run with one or two settings changed, up to the first step of its training."""
    typed = [f"{random.choice(_keys())}={random.choice(VALUES)}" for _ in range(random.choice((0, 1, 1, 1, 2)))]
    if random.random() < 0.2:
        group = random.choice(CHOICES)
        typed.append(f"{group}={random.choice(_choices(group))}")
    return tried(" ".join(typed), lambda folder: _begin((*TINY, *typed), folder))


def _begin(overrides: tuple[str, ...], folder: Path) -> None:
    """All that train.py does, with one step of training and no scores."""
    cfg = compose_config("train", overrides)
    whole, fitting.fit = fitting.fit, _one_step
    try:
        run = Run(folder / "run")
        train.fit(train.training_config(cfg, run), run)
    finally:
        fitting.fit = whole


def _one_step(task, module, images, setting, *_) -> dict:
    quiet_lightning()
    settings = {**setting.config["trainer"], "precision": setting.machine.precision, "enable_progress_bar": False}
    trainer = build({**settings, "fast_dev_run": True}, "trainer", logger=False, default_root_dir=str(setting.run.folder))
    trainer.fit(module, datamodule=images)
    return {}


@functools.cache
def _keys() -> list[str]:
    """Every setting of train.py."""
    return [key for key in keys_of(compose_config("train", TINY)) if key.split(".")[0] not in LEFT_OUT]


def keys_of(node: DictConfig, place: str = "") -> list[str]:
    """Every setting of a config, groups and parts of groups too."""
    found = []
    for key in node:
        child = node._get_node(key)
        found.append(f"{place}{key}")
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_interpolation()):
            found += keys_of(child, f"{place}{key}.")
    return found


@functools.cache
def _choices(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))
