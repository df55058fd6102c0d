"""Transforms of columns, by name: frames [..., n] to others [..., m], and back.

They are for what a network learns poorly as it is stored: rotations as quaternions, angles that
wrap, a gripper in units of its own. A transform is a frozen dataclass; its fields are its options:

    @COLUMN_TRANSFORMS.add("degrees_to_radians")
    @dataclass(frozen=True)
    class DegreesToRadians: ...
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry, nearest

Floats = NDArray[np.float64]
Words = tuple[str, ...]


class ColumnTransform(Protocol):
    """An invertible function of the last axis. Without state: frame by frame the same always."""

    def output_size(self, size: int) -> int:
        """How many columns it makes of `size`; raises ConfigError where it does not take them."""

    def apply(self, values: NDArray[Any]) -> Floats:
        """[..., n] -> [..., output_size(n)]. Raises ValueError for numbers that it cannot take."""

    def invert(self, values: NDArray[Any]) -> Floats:
        """The inverse of `apply`, of any numbers that a network may give."""

    def names(self, inputs: Words) -> Words:
        """Names of what it makes of columns with these names."""

    def units(self, inputs: Words) -> Words:
        """Units of what it makes of columns in these units; "" where there is none."""


COLUMN_TRANSFORMS: Registry[Callable[..., ColumnTransform]] = Registry("column transform")


def make_transform(name: str, options: Mapping[str, Any]) -> ColumnTransform:
    """The transform `name` with these options; raises ConfigError for what is not known."""
    build = COLUMN_TRANSFORMS[name]
    known = [field.name for field in fields(build)]  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            listed = ", ".join(known) or "none"
            raise ConfigError(
                f"transform {name!r} has no option {option!r}{nearest(str(option), known) or ';'} "
                f"its options: {listed}"
            )
    try:
        return build(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"transform {name!r}: {error}") from error


def require_size(name: str, size: int, wanted: int) -> None:
    """Raise ConfigError unless a transform is given as many columns as it takes."""
    if size != wanted:
        raise ConfigError(f"{name} takes {wanted} columns, and {size} are given")


def prefix_of(names: Words) -> str:
    """What names of one thing have in common, up to the last separator: "left_qx" -> "left_"."""
    shortest, longest = min(names), max(names)
    common = 0
    while common < len(shortest) and shortest[common] == longest[common]:
        common += 1
    ends = [i + 1 for i, letter in enumerate(shortest[:common]) if letter in "._-/ "]
    return shortest[: ends[-1]] if ends else ""
