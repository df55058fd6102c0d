"""Tensors in nested tuples, dicts and dataclasses, by name, for what takes tensors alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

Rebuild = Callable[[Iterable[Tensor]], Any]


def flatten(nested: Any, name: str = "") -> tuple[dict[str, Tensor], Rebuild]:
    """The tensors of nested tuples, lists, dicts and dataclasses, in their order, and what puts
    others of their number into the same places.

    name: What their names begin with.

    >>> from torch import ones
    >>> tensors, rebuild = flatten({"x": ones(1), "films": (ones(2), None)}, "row")
    >>> list(tensors)
    ['row.x', 'row.films.0']
    >>> rebuild([ones(3), ones(0)])
    {'x': tensor([1., 1., 1.]), 'films': (tensor([]), None)}
    """
    found = dict(_tensors(nested, name))
    return found, lambda tensors: _replaced(nested, iter(tensors))


def _tensors(nested: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(nested, Tensor):
        yield name, nested
    for key, part in _parts(nested):
        yield from _tensors(part, f"{name}.{key}" if name else str(key))


def _replaced(nested: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(nested, Tensor):
        return next(tensors)
    parts = {key: _replaced(part, tensors) for key, part in _parts(nested)}
    if not parts:
        return nested
    if isinstance(nested, dict):
        return parts
    if type(nested) in (tuple, list):
        return type(nested)(parts.values())
    return type(nested)(*parts.values())  # a named tuple, or a dataclass


def _parts(nested: Any) -> Sequence[tuple[Any, Any]]:
    if isinstance(nested, dict):
        return list(nested.items())
    if isinstance(nested, tuple | list):
        return list(enumerate(nested))
    if is_dataclass(nested) and not isinstance(nested, type):
        return [(field.name, getattr(nested, field.name)) for field in fields(nested)]
    return ()
