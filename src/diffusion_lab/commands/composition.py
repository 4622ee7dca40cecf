"""What Hydra is told before it composes a config."""

import os
import re
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal import utils
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from diffusion_lab.commands.console import UNKNOWN, exit_on_user_error, refuse_arguments
from diffusion_lab.commands.latents import latents
from diffusion_lab.commands.suited import (
    now_and_then,
    suited_epochs,
    suited_patch,
    suited_samples,
    suited_size,
    where_colour,
    where_larger,
)
from diffusion_lab.conf_path import CONF
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.names import run_name

NAMES = ("name", "data.name")  # of folders below outputs/
LISTS = ("metrics/figures", "experiment", "augment")  # groups of which several choices make sense together


def prepare_hydra() -> None:
    """Make the resolvers known that configs use, such as `${run_name:...}`; spare Hydra copies of its store.

    Hydra deep-copies the store of its own configs for each group that --help lists and for each job of a multirun, and
    changes none of the copies: that was 0.5 s of --help's 1.2.
    """
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    suited = suited_size, suited_epochs, suited_patch, suited_samples
    for resolver in (*suited, now_and_then, where_colour, where_larger, latents):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    OmegaConf.register_new_resolver("either", lambda this, that: this or that, replace=True)
    OmegaConf.register_new_resolver("where_labels", lambda count, then, other: then if count else other, replace=True)
    ConfigStore.__deepcopy__ = lambda store, memo: store


def say_user_errors_in_a_line() -> None:
    """Let Hydra answer with one line where it fails before our own work begins, as for an unknown key, or an output folder
    that cannot be made: it would print several, or a traceback."""
    utils.run_and_report = partial(_reported, utils.run_and_report)


def _reported(report: Callable, work: Callable):
    return report(partial(exit_on_user_error, partial(_composing, work)))


def _composing(work: Callable):
    """`work()`; what goes wrong before there is a config is the command line's fault, or that of a config file."""
    HydraConfig.instance().cfg = None
    try:
        return work()
    except Exception as error:
        said = None if HydraConfig.initialized() or _is_of_a_job(error) else _mistake(error)
        if said is None:
            raise
        raise UserError(said) from error


def _mistake(error: Exception) -> str | None:
    """What the command line's or a config file's fault is; None where `error` is none of theirs, or says so itself."""
    if isinstance(error, HydraException):
        return composition_error(error)
    if isinstance(error, RecursionError):
        return "a config file's defaults name the file itself, or one that names it"
    if isinstance(error, YAMLError | ValueError | TypeError | AttributeError | OmegaConfBaseException):
        return f"a config file cannot be read: {' '.join(str(error).split())}"
    return None


def _is_of_a_job(error: Exception) -> bool:
    """Whether a config was composed, and our own work begun: Hydra forgets the config before it hands its error on."""
    return any(frame.f_code is exit_on_user_error.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def composition_error(error: Exception) -> str:
    """What is wrong with a command line, in one line: what Hydra says, or for a key that is not there, which it may be."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    parent, key = getattr(cause, "parent_node", None), str(getattr(cause, "full_key", None) or "")
    *above, name = key.split(".")
    if isinstance(parent, DictConfig) and name and name not in parent and str(error).startswith("Could not override"):
        close = get_close_matches(name, [str(each) for each in parent], 1)
        return f"there is no {key}: " + (f"is it {'.'.join([*above, *close])}?" if close else "--help shows all keys")
    options = getattr(error, "options", None)
    if options and isinstance(error, MissingConfigException):
        group, _, asked = str(error.missing_cfg_file).rpartition("/")
        close = get_close_matches(asked, options, 1)
        said = f"there is no {group}={asked}: " + (f"is it {close[0]}? There are " if close else "there are ")
        return said + ", ".join(option for option in options if not option.startswith("_"))
    return " ".join(str(error).partition("Config search path:")[0].split())


def words_of(arguments: Sequence[str]) -> list[str]:
    """What of a command line are settings, and not Hydra's own options; what is neither ends the program."""
    parser = utils.get_args_parser()
    parser.error = refuse_arguments
    known, others = parser.parse_known_args(list(arguments))
    for word in others:
        if word.startswith("-"):
            refuse_arguments(f"{UNKNOWN}{word}")
    return [*known.overrides, *others]


def own_places(arguments: Sequence[str]) -> list[str]:
    """Where packages of one's own may lie: the current folder, and the one that --config-dir lies in."""
    folder = utils.get_args_parser().parse_known_args(list(arguments))[0].config_dir
    return [os.getcwd(), *([str(Path(folder).resolve().parent)] if folder else [])]


def _unread(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        wanted = "a value with a space in it wants quotes, \"key='two words'\""
        return f"{word or 'an empty word'} is no setting, which has a =: {wanted}"
    if re.search(r"\s[\w./@+~-]+=", value):
        return f"{word} cannot be read: type its settings apart, each a word of its own"
    wanted = "letters beyond a to z, spaces and brackets want quotes"
    return f"{word} cannot be read: {wanted}" + (f": \"{key}='{value}'\"" if "'" not in value else "")


def check_choices(overrides: Sequence[str]) -> None:
    """Raise UserError for what Hydra's grammar cannot read, and where a choice, or `out`, is no word, as in `data=5`: Hydra
    points into the one, and answers the others with a traceback or an interpolation."""
    parser, parsed = OverridesParser.create(), []
    for word in overrides:
        try:
            parsed.append(parser.parse_override(word))
        except HydraException as error:
            raise UserError(_unread(word)) from error
    for override in parsed:
        group = str(override.key_or_group)
        if group == "out" and not override.is_sweep_override() and isinstance(override.value(), list | dict):
            raise UserError(f"{override.input_line} must be a word, one folder")
        if override.is_delete() or not (group in NAMES or (CONF / group).is_dir()):
            continue
        values = list(override.sweep_iterator() if override.is_sweep_override() else [override.value()])
        if group in NAMES:
            _check_names(override.input_line, values)
            continue
        for value in values:
            words = value if isinstance(value, list) and group in LISTS else [value]
            if not words or not all(map(_is_choice, words)):
                raise UserError(f"{override.input_line} must name one of the choices below conf/{group}")


def _is_choice(word: object) -> bool:
    """Whether it may name a choice: no file elsewhere, which Hydra would read too. A choice's settings, as a mapping, are
    merged into it."""
    return isinstance(word, dict) or (isinstance(word, str) and not word.startswith("/") and ".." not in Path(word).parts)


def _check_names(typed: str, values: list) -> None:
    """Raise UserError for a part of an output folder that leads out of outputs/, or holds what no name should."""
    for value in map(str, values):
        if Path(value).is_absolute() or ".." in Path(value).parts or not value.isprintable():
            raise UserError(f"{typed} must be a name below outputs/; out=FOLDER takes any folder")


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config that `python src/<name>.py <overrides>` composes, its own part of Hydra's set aside as there.

    Raises:
        UserError: the overrides do not compose.
    """
    check_choices(overrides)
    prepare_hydra()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose(name, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(composition_error(error)) from error
    HydraConfig.instance().set_config(cfg)  # what ${hydra:...} refers to
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    OmegaConf.set_struct(cfg, True)
    return cfg
