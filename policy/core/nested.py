"""Tensors in nested tuples and dataclasses, as a list, for what takes tensors alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

Rebuild = Callable[[Sequence[Tensor]], Any]


def flatten(nested: Any) -> tuple[list[Tensor], Rebuild]:
    """The tensors of nested tuples, lists and dataclasses in their order, and what puts others of
    their number into the same places.

    >>> from torch import ones
    >>> tensors, rebuild = flatten((ones(1), (None, ones(2))))
    >>> len(tensors), rebuild([ones(3), ones(4)])
    (2, (tensor([1., 1., 1.]), (None, tensor([1., 1., 1., 1.]))))
    """
    found: list[Tensor] = []
    _collect(nested, found)

    def rebuild(tensors: Sequence[Tensor]) -> Any:
        if len(tensors) != len(found):
            raise ValueError(f"{len(tensors)} tensors for {len(found)} places")
        return _replaced(nested, iter(tensors))

    return found, rebuild


def _collect(nested: Any, found: list[Tensor]) -> None:
    if isinstance(nested, Tensor):
        found.append(nested)
    for part in _parts(nested):
        _collect(part, found)


def _replaced(nested: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(nested, Tensor):
        return next(tensors)
    parts = [_replaced(part, tensors) for part in _parts(nested)]
    if not parts:
        return nested
    if type(nested) in (tuple, list):
        return type(nested)(parts)
    return type(nested)(*parts)  # a named tuple, or a dataclass


def _parts(nested: Any) -> Sequence[Any]:
    if isinstance(nested, tuple | list):
        return nested
    if is_dataclass(nested) and not isinstance(nested, type):
        return [getattr(nested, field.name) for field in fields(nested)]
    return ()
