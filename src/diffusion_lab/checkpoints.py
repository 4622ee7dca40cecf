"""Checkpoint files opened: plain values and weights, from which a model is built again.

A file from outside is data. Pickled code in it is never run; nothing in its config is resolved; and of what its config names
only the parts that conf/ offers are built, and those of packages that the user trusts.
"""

import contextlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import yaml
from hydra.utils import get_object
from torch import Tensor, nn

from diffusion_lab import older_checkpoints, safetensors_files
from diffusion_lab.averages import FOLDER, weights_of_length
from diffusion_lab.conf_path import CONF
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.errors import Diverged, UserError, user_error_in
from diffusion_lab.files import check_beginning
from diffusion_lab.parts import build

# The groups of conf/ from which a file may name parts; what these are called with is checked like any user's config.
GROUPS = ("data", "guidance", "level", "metrics", "network", "sampler", "schedule", "space", "target")
BUILT = (*GROUPS, "model")  # and not the optimizer, the logger and so on
PLAIN = (str, int, float, bool, type(None))
MOST = 1_000_000  # that any number in a file's config may be: else it could ask for all memory
MOST_PIXELS = 2048  # a side
ADAPTERS = "diffusion_lab.pretrained.lora.lora_denoiser"  # of a network that lies elsewhere


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of this project.

    Attributes:
        path: of the file.
        config: it was trained with, plain values.
        weights: of the model; averaged ones where the run averaged them.
        averaged: whether they are.
        state: all else that Lightning keeps: epoch, global_step, callbacks and so on; nothing in a safetensors file.
        trusted: packages beside this one whose classes the config may name; None for a file that this process wrote itself.
    """

    path: Path
    config: dict
    weights: dict[str, Tensor]
    averaged: bool
    state: dict
    trusted: tuple[str, ...] | None

    def model(self, kind: type[NoisyModel]) -> NoisyModel:
        """The model, in evaluation mode, in the layout that it is fastest in.

        Args:
            kind: what it has to be: Denoiser, or NoisyClassifier.

        Raises:
            UserError: it is something else, or the weights do not fit the network that the config names.
            Diverged: the weights are not finite.
        """
        space = self.config["model"].get("space") or {}
        if space.get("sha256") and not any(key.startswith("space.autoencoder.") for key in self.weights):
            raise UserError(f"checkpoint={self.path} is of latents, and their autoencoder is missing from it")
        misfit = UserError(f"checkpoint={self.path}: the weights do not fit the network that its config names")
        # Adapters are of a pretrained network, whose size is no matter of this file.
        adapters = self.config["model"].get("_target_") == ADAPTERS
        limited = contextlib.nullcontext() if adapters else _no_larger_than(self.weights, misfit)
        with _files_fault(self.path), limited:
            model = build(self.config["model"], "model")
        if not isinstance(model, kind):
            wanted, found = kind.__name__, type(model).__name__
            raise UserError(f"checkpoint={self.path} is of a {found}; give that of a {wanted}, which {kind.made_by} leaves")
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise misfit from error
        broken = next((name for name, weights in model.named_parameters() if not weights.isfinite().all()), None)
        if broken:
            raise Diverged(f"checkpoint={self.path} is of a training that diverged: the weights {broken} are not finite")
        return model.to(memory_format=torch.channels_last).eval()


def load_checkpoint(path: str | Path, trusted: Sequence[str] | None = (), ema_length: float | None = None) -> Checkpoint:
    """Read a checkpoint of this project, or the safetensors file that export.py made of one, on the CPU, and see that its
    config names nothing but known parts.

    Args:
        trusted: packages whose classes the config may name too; None for a file that this process wrote itself.
        ema_length: of the averaged weights, made of the snapshots beside the file, see `diffusion_lab.averages`.

    Raises:
        UserError: the file is missing, damaged, another program's, needs pickled code, or names what is not trusted; or
            there are no snapshots.
    """
    state = older_checkpoints.converted(_read(Path(path)))
    config = state["config"]
    if not isinstance(config.get("model"), dict):
        raise UserError(f"checkpoint={path} is of an older diffusion-lab, whose config names no model: train it again")
    if trusted is not None:
        refuse_strangers(config, path, trusted)
    weights = {key.removeprefix("model."): value for key, value in state["state_dict"].items() if key.startswith("model.")}
    if ema_length is not None:
        weights = _of_length(weights, Path(path), state, ema_length)
    # Lightning's averaging puts the averages into state_dict, and keeps the raw weights beside them.
    averaged = ema_length is not None or "averaging_state" in state
    return Checkpoint(Path(path), config, weights, averaged, state, None if trusted is None else tuple(trusted))


def _of_length(weights: dict[str, Tensor], path: Path, state: dict, length: float) -> dict[str, Tensor]:
    made = weights_of_length(path.parent / FOLDER, state.get("global_step", 0), length)
    if any(name not in weights or weights[name].shape != each.shape for name, each in made.items()):
        raise UserError(f"checkpoint={path}: the snapshots beside it are of another network")
    return {**weights, **made}


def _read(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"checkpoint={path} is not a file; a run's are in outputs/<name>/<run>/checkpoints/")
    if path.suffix == safetensors_files.SUFFIX:
        return _read_safetensors(path)
    check_beginning(path)
    try:
        broken = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None  # torch does not look at the sums
        if broken:
            raise UserError(f"checkpoint={path} is damaged: {broken} in it is not what was written")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on other programs' files, which get a line of their own below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint={path} holds pickled code, which is never run, or is damaged") from error
    except Exception as error:
        raise UserError(f"checkpoint={path} cannot be read: it is truncated or no checkpoint at all") from error
    whole = isinstance(state, dict) and all(isinstance(state.get(key), dict) for key in ("config", "state_dict"))
    if not whole:
        raise UserError(f"checkpoint={path} was not written by diffusion-lab's train.py (it has no config inside)")
    return state


def _read_safetensors(path: Path) -> dict:
    """What `_read` gives, of a safetensors file."""
    config, weights, averaged = safetensors_files.read_model(path)
    if not isinstance(config, dict):
        raise UserError(f"checkpoint={path} holds a {type(config).__name__} for a config")
    averages = {"averaging_state": {}} if averaged else {}
    return {"config": config, "state_dict": {f"model.{key}": value for key, value in weights.items()}, **averages}


def refuse_strangers(config: dict, path: str | Path, trusted: Sequence[str] = ()) -> None:
    """See that a config out of a file is plain data that names nothing but known parts.

    Raises:
        UserError: it holds something to be resolved, a number that asks for all memory, or a `_target_` that is neither a
            part of conf/ nor defined in a trusted package.
    """
    for place, value in _leaves(config):
        if type(value) not in PLAIN:
            raise UserError(f"checkpoint={path} holds a {type(value).__name__} at {place}, which is no plain value")
        if "${" in f"{place}{value}" or "_args_" in place.split("."):
            raise UserError(f"checkpoint={path} holds {value!r} at {place}: nothing in a file is resolved")
        if isinstance(value, int) and abs(value) > MOST and not place.endswith("seed"):
            raise UserError(f"checkpoint={path} holds {value} at {place}, which is more than {MOST}")
        if place.endswith("._target_"):
            _refuse_stranger(value, place, path, trusted)
    model = config.get("model") or {}
    if model.get("_target_") == ADAPTERS and not Path(str(model.get("path"))).is_dir():
        raise UserError(f"checkpoint={path} holds adapters of {model.get('path')}, which is no folder here: take model.lora")
    space = model.get("space") or {}
    size = space.get("size", 1)
    pair = size if isinstance(size, list) and len(size) == 2 else [size]
    if not all(isinstance(side, int) and side <= MOST_PIXELS for side in pair):
        raise UserError(f"checkpoint={path} is of images of {size} px, more than {MOST_PIXELS}")


def _leaves(node, place: str = "") -> Iterator[tuple[str, object]]:
    """Everything in nested dicts and lists that is neither, with its place."""
    if type(node) is dict:
        for key, child in node.items():
            yield from _leaves(child, f"{place}.{key}" if place else str(key))
    elif type(node) is list:
        for i, child in enumerate(node):
            yield from _leaves(child, f"{place}.{i}")
    else:
        yield place, node


def _refuse_stranger(target: object, place: str, path: str | Path, trusted: Sequence[str]) -> None:
    if place.split(".")[0] not in BUILT:
        return
    if not isinstance(target, str):
        raise UserError(f"checkpoint={path} holds {target!r} at {place}, which names nothing")
    package = target.split(".")[0]
    if target in parts_of_conf():
        return
    if package == "diffusion_lab" or package not in trusted:
        advice = (
            "it is no part of this package"
            if package == "diffusion_lab"
            else f"if you trust it, add {_trusting([*trusted, package])}"
        )
        raise UserError(f"checkpoint={path} names {target} at {place}; {advice}")
    if getattr(get_object(target), "__module__", "").split(".")[0] != package:  # package.module.os.system is another's
        raise UserError(f"checkpoint={path} names {target} at {place}, which is not defined in {package}")


def trusting(config: dict) -> str | None:
    """What to type so that the checkpoint of a training with this config is opened; None where nothing is wanted."""
    targets = [(place.split("."), value) for place, value in _leaves(config) if place.endswith("._target_")]
    named = [str(value).split(".")[0] for (group, *_), value in targets if group in BUILT and value not in parts_of_conf()]
    packages = [*config.get("trusted", ()), *named]
    return _trusting(packages) if set(packages) - {"diffusion_lab"} else None


def _trusting(packages: Sequence[str]) -> str:
    """Quoted, as shells want it."""
    return f'"trusted=[{",".join(dict.fromkeys(["diffusion_lab", *packages]))}]"'


@cache
def parts_of_conf() -> frozenset[str]:
    """Every `_target_` that the choices of GROUPS in conf/ name, and the models that tasks compose."""
    leaves = [leaf for group in GROUPS for leaf in _leaves_below(CONF / group)]
    leaves += [(place, value) for place, value in _leaves_below(CONF / "task") if place.startswith("model.")]
    return frozenset(value for place, value in leaves if value and place.split(".")[-1] == "_target_")


def _leaves_below(folder: Path) -> Iterator[tuple[str, object]]:
    for file in folder.rglob("*.yaml"):
        yield from _leaves(yaml.safe_load(file.read_text()) or {})


@contextlib.contextmanager
def _files_fault(path: Path) -> Iterator[None]:
    """Whatever goes wrong in here, it is for the file's config that it does."""
    try:
        yield
    except Exception as error:
        if user_error_in(error):
            raise
        raise UserError(f"checkpoint={path}: its config makes no model ({str(error).splitlines()[0]})") from error


@contextlib.contextmanager
def _no_larger_than(weights: dict[str, Tensor], misfit: UserError) -> Iterator[None]:
    """Let no network be built that has more parameters than there are weights for."""
    room = sum(tensor.numel() for tensor in weights.values())

    def count(module: nn.Module, name: str, parameter) -> None:
        nonlocal room
        room -= 0 if parameter is None else parameter.numel()
        if room < 0:
            raise misfit

    hook = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
