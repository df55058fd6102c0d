"""One entry of a robot's observation, as it is declared: shape, dtype, units, names, what turns."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import Units, canonical, each_unit, unit_problem
from dipole.data.transforms.rotation import SIX, SIZES, XYZW
from dipole.deploy.robots.groups import FULL_TURN
from dipole.deploy.sequences import as_tuple, whole_numbers


@dataclass(frozen=True)
class Channel:
    """One entry of an observation.

    shape: Of one reading.
    dtype: "uint8" for pictures, whose readings then have no other; else a float's. A type of
        numpy's is kept by its name.
    unit: Of all its numbers, or one for each entry of the last axis: "m, m, rad".
    quaternions: Where each unit quaternion x, y, z, w begins in the last axis; short for rotations.
    names: Of a vector's entries, in order, as the demonstrations name them; empty: not compared.
    rotations: (where it begins in the last axis, how it is written) of each rotation, as
        ((3, "rotation_6d"),); see rotation.py.
    continuous: Entries of the last axis that are angles without an end, as 3.1 rad is near -3.1.

    Raises ConfigError for what does not fit together.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    quaternions: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    rotations: tuple[tuple[int, str], ...] = ()
    continuous: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._make_tuples()
        if self.names and (len(self.names),) != self.shape:
            raise ConfigError(
                f"{len(self.names)} names ({', '.join(self.names)}) for a reading of shape "
                f"{self.shape}: a vector has one for each entry"
            )
        object.__setattr__(self, "dtype", _dtype_name(self.dtype))
        if problem := unit_problem(self.unit):
            raise ConfigError(problem)
        if "," in self.unit and self.shape[-1:] != (len(self.unit.split(",")),):
            raise ConfigError(f"units {self.unit!r} for a reading of shape {self.shape}")
        taken: set[int] = set()
        for start, written in self.all_rotations:
            taken |= self._columns_of(start, written, taken)
        for column in self.continuous:
            self._check_angle(column, taken)

    def _make_tuples(self) -> None:
        """What was given as lists, as tuples; raises ConfigError for anything else."""
        for name in ("shape", "quaternions", "continuous"):
            object.__setattr__(self, name, whole_numbers(name, getattr(self, name)))
        object.__setattr__(self, "names", as_tuple("names", self.names))
        if any(size < 0 for size in self.shape):
            raise ConfigError(f"shape is {self.shape}: no size is negative")
        pairs = as_tuple("rotations", self.rotations)
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ConfigError(
                    f"rotations has {pair!r}: each is where it begins and how it is written, as "
                    f"rotations=((3, {SIX!r}),)"
                )
        rotations = tuple((*whole_numbers("rotations", pair[:1]), pair[1]) for pair in pairs)
        object.__setattr__(self, "rotations", rotations)

    @property
    def width(self) -> int:
        """Entries of the last axis."""
        return self.shape[-1] if self.shape else 1

    @property
    def units(self) -> Units:
        """The unit of all numbers, or one for each entry of the last axis."""
        each = tuple(word.strip() for word in self.unit.split(","))
        return each if len(each) > 1 else self.unit

    @property
    def all_rotations(self) -> tuple[tuple[int, str], ...]:
        """Where each rotation begins in the last axis, and how it is written."""
        return (*((start, XYZW) for start in self.quaternions), *self.rotations)

    def _columns_of(self, start: int, written: str, taken: set[int]) -> set[int]:
        if written not in SIZES:
            raise ConfigError(f"rotations has {written!r}; it is one of {', '.join(SIZES)}")
        columns = set(range(start, start + SIZES[written]))
        what = "quaternion" if written == XYZW else written
        if start < 0 or not self.shape or max(columns) >= self.width:
            raise ConfigError(f"the {what} at {start} does not fit a reading of shape {self.shape}")
        if columns & taken:
            raise ConfigError(f"the {what} at {start} overlaps with the rotation before it")
        return columns

    def _check_angle(self, column: int, taken: set[int]) -> None:
        if not self.shape or not 0 <= column < self.width:
            raise ConfigError(
                f"continuous has {column}, which does not fit a reading of shape {self.shape}"
            )
        if column in taken:
            raise ConfigError(f"continuous has {column}, which is a number of a rotation")
        unit = each_unit(self.units, self.width)[column]
        if canonical(unit) not in FULL_TURN:
            raise ConfigError(
                f"continuous has {column}, whose unit is {unit!r}: angles have 'rad' or 'deg'"
            )


def _dtype_name(given: Any) -> str:
    """The name of a dtype of numbers, however it is given: "float32", np.float32, "<f4"."""
    try:
        if given is None:  # numpy's own default, float64, was not asked for
            raise TypeError
        dtype = np.dtype(given)
    except TypeError:
        raise ConfigError(f"dtype is {given!r}: as numpy's, 'float32' or 'uint8'") from None
    if dtype.kind not in "biuf":
        raise ConfigError(f"dtype is {given!r}, which holds no numbers: as 'float32' or 'uint8'")
    return str(dtype.name)
