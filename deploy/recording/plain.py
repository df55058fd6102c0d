"""Frozen dataclasses from what `asdict` and JSON made of them."""

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any


def from_plain(kind: Any, value: Any) -> Any:
    """A value of type `kind`: a dataclass, a tuple, a mapping, an enumeration, or as it is.

    Only what the dataclasses' own annotations name is constructed. Raises TypeError or ValueError
    for values that do not fit, and whatever the dataclasses' validation raises.

    >>> from dipole.deploy.robots.channel import Channel
    >>> from_plain(Channel, {"shape": [2], "unit": "rad"})
    Channel(shape=(2,), dtype='float32', unit='rad', quaternions=())
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return _object(kind, value)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(inner, value)
    if isinstance(origin, type):
        return _collection(origin, inner, value)
    return _scalar(kind, value)


def _scalar(kind: Any, value: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if isinstance(kind, type) and kind is not Any and type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _collection(origin: type, inner: Sequence[Any], value: Any) -> Any:
    if origin is tuple:
        return _tuple(inner, value)
    if issubclass(origin, Mapping):
        return {key: from_plain(inner[1], entry) for key, entry in _table(value).items()}
    if issubclass(origin, Sequence):
        return [from_plain(inner[0], entry) for entry in value]
    raise TypeError(f"{origin} is not recorded")


def _object(kind: Any, value: Any) -> Any:
    table, hints = _table(value), typing.get_type_hints(kind)
    known = {entry.name for entry in fields(kind) if entry.init}
    for name in table:
        if name not in known:
            raise ValueError(f"{kind.__name__} has no field {name!r}")
    return kind(**{name: from_plain(hints[name], entry) for name, entry in table.items()})


def _first_that_fits(kinds: Sequence[Any], value: Any) -> Any:
    for kind in kinds:
        try:
            return from_plain(kind, value)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{value!r} is none of {', '.join(map(str, kinds))}")


def _tuple(inner: Sequence[Any], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is no list")
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(from_plain(inner[0], entry) for entry in value)
    return tuple(from_plain(k, entry) for k, entry in zip(inner, value, strict=True))


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no table")
    return value
