"""From the nodes of a config to the parts that they name: `_target_`, and what it is called with."""

import contextlib
import inspect
import json
import shlex
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, get_args, get_type_hints, is_typeddict

from hydra._internal.utils import _locate
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from diffusion_lab.errors import UserError, user_error_in


def build(node: Any, where: str, **more) -> Any:
    """`hydra.utils.instantiate` of a node of plain values, after a look at what each `_target_` takes.

    Args:
        where: the node's place in the config, for messages.
        more: further arguments of the outermost `_target_`.

    Raises:
        UserError: a setting does not belong to the `_target_` that it is below, is missing, is of a wrong type, or nothing
            can be made of it.
    """
    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not (isinstance(node, dict) and "_target_" in node):
        raise UserError(f"{where}={node} is no part: it wants a `_target_`, as the choices below conf/ have")
    _check(node, where, more)
    try:
        return instantiate(node, **more)
    except InstantiationException as error:
        if user_error_in(error) or error.__cause__ is None:
            raise
        reason = " ".join(str(error.__cause__).split()) or type(error.__cause__).__name__
        raise UserError(f"{where} cannot be made of its settings: {reason}") from error


def _check(node: Any, where: str, more: dict) -> None:
    if isinstance(node, list):
        for i, child in enumerate(node):
            _check(child, f"{where}[{i}]", {})
    if not isinstance(node, dict):
        return
    for key, child in node.items():
        _check(child, f"{where}.{key}", {})
    if not isinstance(node.get("_partial_", False), bool):
        raise UserError(f"{where}._partial_={node['_partial_']} must be true or false")
    if "_target_" in node:
        given = {key: value for key, value in node.items() if not _is_hydras(key)}
        _check_call(_target(node["_target_"], where), given, where, more, node.get("_partial_", False))


def _target(name: Any, where: str) -> Callable:
    """The class or function of that name."""
    try:
        found = _locate(name)  # and not get_object, which logs in three lines what fails
    except Exception as error:
        raise UserError(f"{where}._target_={name} cannot be imported: {' '.join(str(error).split())}") from error
    if not callable(found):
        raise UserError(f"{where}._target_={name} is neither a class nor a function")
    return found


def _check_call(target: Any, given: dict, where: str, more: dict, partial: bool) -> None:
    parameters = inspect.signature(target).parameters
    taken = taken_by(target)
    strange = [f"{where}.{key}" for key in given if taken is not None and key not in taken]
    if strange:
        said = f"{', '.join(strange)} {'do' if len(strange) > 1 else 'does'} not belong to {target.__name__}"
        typed = shlex.join(f"~{setting}" for setting in strange)
        without = f"; to leave out what another choice brings, type {typed}" if where.isidentifier() else ""
        raise UserError(f"{said}, which takes {', '.join(taken)}{without}")
    _check_types(target, given, where)
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and not partial and name not in given and name not in more and "_args_" not in given:
            raise UserError(f"{where}.{name} is missing: {target.__name__} needs it")


def _check_types(target: Callable, given: dict, where: str) -> None:
    """Raise UserError for plain values that are not what the annotations of `target` say."""
    hints = _hints(target)
    for name, value in given.items():
        if name not in hints or _has_parts(value):
            continue
        try:
            hints[name].validate_json(json.dumps(value), strict=True)
        except ValueError as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(f"{where}.{name}={value} does not suit {target.__name__}: {said}") from error


def _has_parts(value: Any) -> bool:
    """Whether something is yet to be made of it, so that its type is not known."""
    return (isinstance(value, dict) and "_target_" in value) or (isinstance(value, list) and any(map(_has_parts, value)))


@cache
def _hints(target: Callable) -> dict[str, TypeAdapter]:
    """What checks an argument, by name, where its annotation can be understood."""
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}
    for hint in [hint for hint in hints.values() if is_typeddict(get_args(hint)[0] if get_args(hint) else None)]:
        hints |= get_type_hints(get_args(hint)[0])  # **way: Unpack[Way]
    checks = {}
    for name, hint in hints.items():
        with contextlib.suppress(PydanticUserError, TypeError, NameError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of annotations that say nothing
            checks[name] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    return checks


def taken_by(function: Callable) -> list[str] | None:
    """The names of the arguments that a function takes; None if it takes any."""
    names = []
    for name, parameter in inspect.signature(function).parameters.items():
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
