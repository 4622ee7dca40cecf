"""From the nodes of a config to the parts that they name: `_target_`, and what it is called with."""

import inspect
from typing import Any, get_args

from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from diffusion_lab.errors import UserError


def build(node: Any, where: str, **more) -> Any:
    """`hydra.utils.instantiate` of a node of plain values, after a look at what each `_target_` takes.

    Args:
        where: the node's place in the config, for messages.
        more: further arguments of the outermost `_target_`.

    Raises:
        UserError: a setting does not belong to the `_target_` that it is below, or one is missing.
    """
    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    _check(node, where, more)
    return instantiate(node, **more)


def _check(node: Any, where: str, more: dict) -> None:
    if isinstance(node, list):
        for i, child in enumerate(node):
            _check(child, f"{where}[{i}]", {})
    if not isinstance(node, dict):
        return
    for key, child in node.items():
        _check(child, f"{where}.{key}", {})
    if "_target_" in node:
        given = {key: value for key, value in node.items() if not _is_hydras(key)}
        _check_call(get_object(node["_target_"]), given, where, more, node.get("_partial_", False))


def _check_call(target: Any, given: dict, where: str, more: dict, partial: bool) -> None:
    parameters = inspect.signature(target).parameters
    taken = _taken(parameters)
    for key in given:
        if taken is not None and key not in taken:
            raise UserError(f"{where}.{key} does not belong to {target.__name__}, which takes {', '.join(taken)}")
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and not partial and name not in given and name not in more and "_args_" not in given:
            raise UserError(f"{where}.{name} is missing: {target.__name__} needs it")


def _taken(parameters) -> list[str] | None:
    """The names of the arguments that a function takes; None if it takes any."""
    names = []
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            described = get_args(parameter.annotation)  # Unpack[a TypedDict]
            if not described:
                return None
            names += described[0].__annotations__
        else:
            names.append(name)
    return names


def _is_hydras(key: str) -> bool:
    return key in ("_target_", "_partial_", "_convert_", "_recursive_")
