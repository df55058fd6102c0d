"""Rotations as networks learn them best: 6 numbers, without jumps (Zhou et al., 2019).

rotation_6d is the first two ROWS of the matrix, r11 r12 r13 r21 r22 r23, as PyTorch3D, robomimic
and UMI write it and as robots declare it; `layout: columns` is r11 r21 r31 r12 r22 r32, as the
paper. Both are the same to a network; they differ where the numbers themselves are stored.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.transforms.column_transform import (
    COLUMN_TRANSFORMS,
    Floats,
    Words,
    prefix_of,
    require_size,
)
from dipole.data.transforms.rotation import MATRIX, SIX, SIX_COLUMNS, SIZES, VECTOR, WXYZ, XYZW
from dipole.data.transforms.rotation_arrays import (
    canonical_sign,
    from_euler,
    from_quaternions,
    to_euler,
    to_quaternions,
)

LAYOUTS = {"rows": SIX, "columns": SIX_COLUMNS}
ORDERS = {"xyzw": XYZW, "wxyz": WXYZ}
ENTRIES = tuple(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3))
WRITTEN = {  # names of a representation's numbers
    XYZW: ("qx", "qy", "qz", "qw"),
    WXYZ: ("qw", "qx", "qy", "qz"),
    VECTOR: ("rx", "ry", "rz"),
    MATRIX: ENTRIES,
    SIX: ENTRIES[:6],
    SIX_COLUMNS: ("r11", "r21", "r31", "r12", "r22", "r32"),
}


class _Rewritten:
    """From one representation of rotations to another; the inverse writes w >= 0."""

    def representations(self) -> tuple[str, str]:
        """What is given, and what is made of it."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        self.representations()  # raises ConfigError for options that are not known

    def output_size(self, size: int) -> int:
        source, target = self.representations()
        require_size(f"a {source}", size, SIZES[source])
        return SIZES[target]

    def apply(self, values: NDArray[Any]) -> Floats:
        source, target = self.representations()
        return from_quaternions(_rotations(values, source), target)

    def invert(self, values: NDArray[Any]) -> Floats:
        source, target = self.representations()
        return from_quaternions(to_quaternions(values, target), source)

    def names(self, inputs: Words) -> Words:
        return tuple(prefix_of(inputs) + name for name in WRITTEN[self.representations()[1]])

    def units(self, inputs: Words) -> Words:
        target = self.representations()[1]
        return ("rad" if target == VECTOR else "",) * SIZES[target]


@COLUMN_TRANSFORMS.add("quaternion_to_6d")
@dataclass(frozen=True)
class QuaternionTo6D(_Rewritten):
    """4 numbers to 6. order: xyzw or wxyz. layout: rows or columns."""

    order: str = "xyzw"
    layout: str = "rows"

    def representations(self) -> tuple[str, str]:
        return _choice("order", self.order, ORDERS), _choice("layout", self.layout, LAYOUTS)


@COLUMN_TRANSFORMS.add("6d_to_quaternion")
@dataclass(frozen=True)
class QuaternionOf6D(QuaternionTo6D):
    """6 numbers to 4, with w >= 0: for a robot that takes quaternions."""

    def representations(self) -> tuple[str, str]:
        quaternion, six = super().representations()
        return six, quaternion


@COLUMN_TRANSFORMS.add("rotation_vector_to_6d")
@dataclass(frozen=True)
class RotationVectorTo6D(_Rewritten):
    """3 numbers, axis times angle in radians, to 6. layout: rows or columns."""

    layout: str = "rows"

    def representations(self) -> tuple[str, str]:
        return VECTOR, _choice("layout", self.layout, LAYOUTS)


@COLUMN_TRANSFORMS.add("6d_to_rotation_vector")
@dataclass(frozen=True)
class RotationVectorOf6D(RotationVectorTo6D):
    """6 numbers to 3, axis times angle, at most pi long."""

    def representations(self) -> tuple[str, str]:
        vector, six = super().representations()
        return six, vector


@COLUMN_TRANSFORMS.add("matrix_to_6d")
@dataclass(frozen=True)
class MatrixTo6D(_Rewritten):
    """9 numbers, row after row, to 6. layout: rows or columns."""

    layout: str = "rows"

    def representations(self) -> tuple[str, str]:
        return MATRIX, _choice("layout", self.layout, LAYOUTS)


@COLUMN_TRANSFORMS.add("euler_to_6d")
@dataclass(frozen=True)
class EulerTo6D:
    """3 angles to 6 numbers.

    sequence: axes, as scipy writes them: "xyz" about fixed axes (roll, pitch, yaw), "XYZ" about
        moving ones.
    degrees: whether the angles are in degrees.
    layout: rows or columns.
    """

    sequence: str = "xyz"
    degrees: bool = False
    layout: str = "rows"

    def __post_init__(self) -> None:
        _choice("layout", self.layout, LAYOUTS)
        axes = str(self.sequence).lower()
        sound = len(axes) == 3 and set(axes) <= set("xyz") and axes[1] not in (axes[0], axes[2])
        if not sound or self.sequence not in (axes, axes.upper()):
            raise ConfigError(
                f"sequence is {self.sequence!r}: three axes, fixed as 'xyz' or moving as 'XYZ'"
            )

    def output_size(self, size: int) -> int:
        require_size("euler_to_6d", size, 3)
        return 6

    def apply(self, values: NDArray[Any]) -> Floats:
        unit = math.pi / 180 if self.degrees else 1.0
        q = from_euler(np.asarray(values, np.float64) * unit, self.sequence)
        return from_quaternions(q, LAYOUTS[self.layout])

    def invert(self, values: NDArray[Any]) -> Floats:
        found = to_euler(to_quaternions(values, LAYOUTS[self.layout]), self.sequence)
        return found * (180 / math.pi if self.degrees else 1.0)

    def names(self, inputs: Words) -> Words:
        return tuple(prefix_of(inputs) + name for name in WRITTEN[LAYOUTS[self.layout]])

    def units(self, inputs: Words) -> Words:
        return ("",) * 6


@COLUMN_TRANSFORMS.add("canonical_quaternion")
@dataclass(frozen=True)
class CanonicalQuaternion:
    """Of q and -q, which are one rotation, always the same, of length 1.

    Which one depends on the frame alone, not on the one before, so that training and deployment see
    the same. It jumps where a rotation is perpendicular to `towards`; quaternion_to_6d nowhere.

    order: xyzw or wxyz.
    towards: the quaternion, in this order, on whose side the written one is; w >= 0 if left out.
    """

    order: str = "xyzw"
    towards: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _choice("order", self.order, ORDERS)
        towards = tuple(float(number) for number in self.towards)
        if towards and (len(towards) != 4 or not 1e-6 < math.hypot(*towards) < math.inf):
            raise ConfigError(f"towards is {list(self.towards)}: a quaternion has 4 numbers")
        object.__setattr__(self, "towards", towards)

    def output_size(self, size: int) -> int:
        require_size("canonical_quaternion", size, 4)
        return 4

    def apply(self, values: NDArray[Any]) -> Floats:
        towards = np.array(self.towards or ((0, 0, 0, 1) if self.order == "xyzw" else (1, 0, 0, 0)))
        if self.order == "wxyz":
            towards = np.roll(towards, -1)
        q = canonical_sign(_rotations(values, ORDERS[self.order]), tuple(towards))
        return q if self.order == "xyzw" else np.roll(q, 1, -1)

    def invert(self, values: NDArray[Any]) -> Floats:
        return from_quaternions(to_quaternions(values, ORDERS[self.order]), ORDERS[self.order])

    def names(self, inputs: Words) -> Words:
        return inputs

    def units(self, inputs: Words) -> Words:
        return inputs


def _rotations(values: NDArray[Any], representation: str) -> Floats:
    """Unit quaternions; raises ValueError, with the numbers, where they are no rotation."""
    q = to_quaternions(values, representation)
    sound = np.isfinite(q).all(-1).reshape(-1)
    if not sound.all():
        numbers = np.reshape(values, (len(sound), -1))[int(np.argmin(sound))]
        raise ValueError(f"{numbers.tolist()} is no {representation}: it has no direction")
    return q


def _choice(what: str, given: str, known: dict[str, str]) -> str:
    if given not in known:
        raise ConfigError(f"{what} is {given!r}: choose {' or '.join(known)}")
    return known[given]
