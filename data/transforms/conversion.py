"""Which columns of a frame are transformed, and how: a list of conversions, applied and inverted.

    stored      x  y  z  qx qy qz qw  grip         columns 3-6 by quaternion_to_6d,
    converted   x  y  z  r11 ... r23  grip         column 7 by range_to_unit

Columns are those of the stored frame, in every entry of the list. What a transform makes stands
where its columns stood or, where there are more or fewer of them, where the first of them stood;
all others keep their order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dipole.data.transforms.number_columns
import dipole.data.transforms.rotation_columns  # noqa: F401  they register themselves
from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.core.units import Units, each_unit
from dipole.data.transforms.column_transform import (
    COLUMN_TRANSFORMS,
    ColumnTransform,
    Floats,
    Words,
    make_transform,
)

__all__ = ["COLUMN_TRANSFORMS", "Conversion", "Conversions", "stored_size"]

_FIELDS = ("columns", "transform", "options")


@dataclass(frozen=True)
class Conversion:
    """One transform of some columns. columns: in the order in which the transform takes them."""

    columns: tuple[int, ...]
    transform: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = self.columns
        sound = isinstance(columns, list | tuple) and columns and all(map(_is_column, columns))
        if not sound or len(set(columns)) < len(columns):
            raise ConfigError(
                f"convert: columns {columns!r}: a list of different whole numbers, counted from 0"
            )
        if not isinstance(self.options, Mapping):
            raise ConfigError(f"convert: options {self.options!r}: a table of names and values")
        object.__setattr__(self, "columns", tuple(columns))
        object.__setattr__(self, "options", dict(self.options))
        self.function.output_size(len(columns))  # raises what is wrong with either

    def __hash__(self) -> int:
        return hash((self.columns, self.transform))

    @cached_property
    def function(self) -> ColumnTransform:
        """The transform with its options."""
        return make_transform(self.transform, self.options)

    @classmethod
    def from_dict(cls, values: Any) -> "Conversion":
        """From plain JSON; raises ConfigError for what it cannot be."""
        if isinstance(values, Conversion):
            return values
        if not isinstance(values, Mapping):
            raise ConfigError(f"convert: {values!r}: a table with columns and transform is needed")
        for name in values:
            if name not in _FIELDS:
                hint = nearest(str(name), _FIELDS) or ";"
                raise ConfigError(f"convert has no {name!r}{hint} known: {', '.join(_FIELDS)}")
        if "columns" not in values or not isinstance(values.get("transform"), str):
            raise ConfigError(f"convert: {dict(values)} needs columns and the name of a transform")
        return cls(values["columns"], values["transform"], values.get("options") or {})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = {"columns": list(self.columns), "transform": self.transform}
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in self.options.items()}
        return plain | ({"options": options} if options else {})


class Conversions:
    """Several conversions of frames whose last axis has `size` columns.

    Raises ConfigError where two take the same column, or one takes a column that is not there.
    """

    def __init__(self, conversions: Sequence[Conversion], size: int) -> None:
        self.conversions, self.size = tuple(conversions), size
        taken: set[int] = set()
        for each in self.conversions:
            if max(each.columns) >= size:
                raise ConfigError(
                    f"convert: column {max(each.columns)} for {each.transform}, and there are "
                    f"{size} of them, counted from 0"
                )
            if twice := taken & set(each.columns):
                raise ConfigError(f"convert: column {min(twice)} is converted twice")
            taken |= set(each.columns)
        self._parts = list(_placed(self.conversions, size))

    @property
    def output_size(self) -> int:
        """Columns of a converted frame."""
        return self.size + sum(_width(each) - len(each.columns) for each in self.conversions)

    def apply(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Stored frames [..., size] -> [..., output_size], in float64 where anything is converted.

        Raises ValueError for numbers that a transform cannot take.
        """
        if not self.conversions:
            return frames
        out = np.empty((*frames.shape[:-1], self.output_size))
        for part in self._parts:
            taken = frames[..., part.columns]
            out[..., part.positions] = part.function.apply(taken) if part.function else taken
        return out

    def apply_where(self, frames: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
        """`apply` where stored columns are known, bool [..., size]; 0 where one that a transform
        takes is not, whatever stands there."""
        dtype = np.float64 if self.conversions else frames.dtype
        out = np.zeros((*frames.shape[:-1], self.output_size), dtype)
        for part in self._parts:
            taken, here = frames[..., part.columns], known[..., part.columns]
            if part.function is None:
                out[..., part.positions] = np.where(here, taken, 0)
                continue
            rows = here.all(-1)
            made = np.zeros((*rows.shape, len(part.positions)))
            made[rows] = part.function.apply(taken[rows])
            out[..., part.positions] = made
        return out

    def invert(self, frames: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `apply`: [..., output_size] -> [..., size]."""
        if not self.conversions:
            return frames
        out = np.empty((*frames.shape[:-1], self.size))
        for part in self._parts:
            taken = frames[..., part.positions]
            out[..., part.columns] = part.function.invert(taken) if part.function else taken
        return out

    def spread(self, weights: Floats) -> Floats:
        """Weights of stored columns [..., size] for converted ones: the least of those a
        transform takes."""
        out = np.empty((*weights.shape[:-1], self.output_size), weights.dtype)
        for part in self._parts:
            taken = weights[..., part.columns]
            out[..., part.positions] = taken.min(-1, keepdims=True) if part.function else taken
        return out

    def names(self, names: Words) -> Words:
        """Names of the converted columns; () where those of the stored ones are not known."""
        return self._words(names, "names") if names else ()

    def units(self, units: Units) -> Units:
        """Units of the converted columns; raises ConfigError where a transform takes others."""
        listed = self._words(each_unit(units, self.size), "units")
        return listed[0] if len(set(listed)) == 1 else listed

    def _words(self, given: Words, what: str) -> Words:
        made = [""] * self.output_size
        for part in self._parts:
            words = tuple(given[column] for column in part.columns)
            words = getattr(part.function, what)(words) if part.function else words
            for position, word in zip(part.positions, words, strict=True):
                made[position] = word
        return tuple(made)


@dataclass(frozen=True)
class _Part:
    """Which columns of a stored frame become which of a converted one; function: None as is."""

    columns: list[int]
    positions: list[int]
    function: ColumnTransform | None = None


def _placed(conversions: Sequence[Conversion], size: int) -> Iterator[_Part]:
    """The columns that stay, and then the conversions."""
    owner = {column: each for each in conversions for column in each.columns}
    slots, at = {}, 0
    for column in range(size):
        slots[column] = at
        conversion = owner.get(column)
        if conversion is None or _width(conversion) == len(conversion.columns):
            at += 1
        elif column == min(conversion.columns):
            at += _width(conversion)
    stays = [column for column in range(size) if column not in owner]
    yield _Part(stays, [slots[column] for column in stays])
    for each in conversions:
        positions = [slots[column] for column in each.columns]
        if _width(each) != len(each.columns):
            first = slots[min(each.columns)]
            positions = list(range(first, first + _width(each)))
        yield _Part(list(each.columns), positions, each.function)


def stored_size(conversions: Sequence[Conversion], output_size: int) -> int:
    """Columns of a stored frame whose converted one has `output_size`."""
    grown = sum(_width(each) - len(each.columns) for each in conversions)
    return output_size - grown


def _width(each: Conversion) -> int:
    return each.function.output_size(len(each.columns))


def _is_column(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
