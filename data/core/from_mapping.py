"""Configurations out of plain mappings: what is unknown, missing or of another type is said."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest

T = TypeVar("T")
_TAKEN: dict[Any, Any] = {int: int, float: (int, float), Path: (str, Path)}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    type(None): "null",
}


def from_mapping(build: Callable[..., T], values: Any, name: str) -> T:
    """`build(**values)`, where each value is known and of its type.

    build: A dataclass, or a function with named parameters; lists become its tuples, mappings its
        dataclasses.
    values: Plain: mappings, lists, numbers, texts.
    name: Of the mapping as a user writes it, such as "task.window"; "" at the top.

    Raises ConfigError that names the nearest known key, the missing one, or the type that is
    needed.

    >>> from_mapping(WindowSpec, {"n_obs_step": 2}, "task.window")  # doctest: +SKIP
    ConfigError: there is no task.window.n_obs_step, did you mean 'n_obs_steps'?
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} is {values!r}: settings by name are needed")
    prefix = f"{name}." if name else ""
    parameters = inspect.signature(build).parameters
    hints = get_type_hints(build)
    for key in values:
        if key not in parameters:
            raise ConfigError(f"there is no {prefix}{key}{nearest(str(key), parameters)}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in values:
            raise ConfigError(f"{prefix}{key} is missing: give it a value")
    options = {
        key: fitted(value, hints.get(key, Any), f"{prefix}{key}") for key, value in values.items()
    }
    return build(**options)


def fitted(value: Any, hint: Any, name: str) -> Any:
    """The value as a parameter takes it whose type is `hint`.

    name: In the message. Raises ConfigError where the value is of another type.
    """
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, name)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not any(_fits(value, option) for option in options):
        wanted = " or ".join(dict.fromkeys(_described(option) for option in options))
        raise ConfigError(f"{name} is {value!r}: {wanted} is needed")
    chosen = next(option for option in options if _fits(value, option))
    if get_origin(chosen) is tuple and isinstance(value, list):
        return tuple(value)
    if is_dataclass(chosen) and isinstance(chosen, type):
        return fitted(value, chosen, name)
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint in (int, float):
        return type(value) is not bool and isinstance(value, _TAKEN[hint])
    if origin is Literal:
        return value in arguments
    if origin in (tuple, list, Sequence):
        return isinstance(value, list | tuple) and _entries_fit(value, arguments)
    if origin in (dict, Mapping) or is_dataclass(hint):
        return isinstance(value, Mapping) or (isinstance(hint, type) and isinstance(value, hint))
    return not isinstance(hint, type) or isinstance(value, _TAKEN.get(hint, hint))


def _entries_fit(values: Sequence[Any], hints: tuple[Any, ...]) -> bool:
    if not hints:
        return True
    if len(hints) == 1 or hints[-1] is Ellipsis:
        return all(_entry_fits(value, hints[0]) for value in values)
    return len(values) == len(hints) and all(map(_entry_fits, values, hints))


def _entry_fits(value: Any, hint: Any) -> bool:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return any(_fits(value, option) for option in options)


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (tuple, list, Sequence):
        some = [each for each in arguments if each is not Ellipsis]
        count = f"{len(some)} " if origin is tuple and Ellipsis not in arguments else ""
        of = f" of {count}{_described(some[0]).removeprefix('a ')}s" if some else ""
        return f"a list{of}"
    if origin in (dict, Mapping) or is_dataclass(hint):
        return "settings by name"
    return getattr(hint, "__name__", str(hint))
