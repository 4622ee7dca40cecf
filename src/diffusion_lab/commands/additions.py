"""Keys that a command line adds to its config with `+`: Hydra takes any, and what nothing reads is a mistake."""

from difflib import get_close_matches

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from diffusion_lab.conf_path import CONF
from diffusion_lab.errors import UserError

OPEN = "metrics.figures"  # a mapping of any names
BY_TASK = ("objective", "monitor")
ADVICE = {  # what those may have meant who added a key of another program to train.py
    "checkpoint": "init_from=FILE begins with its weights, resume_from=FILE goes on with its training",
    "model.path": "init_from=FOLDER begins with its weights",
}


def check_additions(cfg: DictConfig) -> None:
    """Raise UserError for a key that was added with `+` where nothing reads it: anywhere but below a part, whose
    `_target_` is asked what it takes."""
    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    for override in OverridesParser.create().parse_overrides(list(hydra.overrides.task or ())):
        key = str(override.key_or_group)
        if (override.is_add() or override.is_force_add()) and not (_is_choice(key, hydra) or _is_read(key, override, cfg)):
            raise UserError(f"{override.input_line}: {hydra.job.config_name} has no such key; {_advice(key, cfg)}")


def _is_choice(key: str, hydra: DictConfig) -> bool:
    return "/" in key or key in hydra.runtime.choices


def _is_read(key: str, override: Override, cfg: DictConfig) -> bool:
    names = key.split(".")
    above = [OmegaConf.select(cfg, ".".join(names[:count]), throw_on_missing=False) for count in range(1, len(names))]
    part = any(isinstance(node, DictConfig) and "_target_" in node for node in above)
    return part or key.startswith(f"{OPEN}.") or (override.is_force_add() and _is_of_the_program(names[0]))


def _is_of_the_program(name: str) -> bool:
    """Whether `++name` may have set what was there."""
    own = yaml.safe_load((CONF / f"{HydraConfig.get().job.config_name}.yaml").read_text())
    return name in own or name in BY_TASK or (CONF / name).is_dir()


def _advice(key: str, cfg: DictConfig) -> str:
    if key in ADVICE and "epochs" in cfg:
        return ADVICE[key]
    close = get_close_matches(key, [str(name) for name in cfg if name != key], 1)
    return f"is it {close[0]}?" if close else "--help shows all of them"
