"""Poses relative to others, and back: positions as differences, rotations as R_base^T R.

Written with operators alone, so that the same functions take numpy's arrays and PyTorch's tensors,
which it differentiates through. A rotation is three rows of three arrays [...].
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

TINY = 1e-6  # length below which a vector has no direction
Vector = Sequence[Any]  # arrays [...], one for each number
Matrix = Sequence[Vector]


def rotation_of_six(numbers: Vector, by_columns: bool = False) -> Matrix:
    """The rotation that 6 numbers [...] write, by Gram-Schmidt (Zhou et al., 2019, equation 15).

    by_columns: they are its first two columns, not rows. NaN where they are no rotation.
    """
    first, second = _unit(numbers[:3]), _unit(numbers[3:6])
    along = _dot(first, second)
    second = _unit([s - along * f for f, s in zip(first, second, strict=True)])
    (a, b, c), (d, e, f) = first, second
    vectors = [first, second, [b * f - c * e, c * d - a * f, a * e - b * d]]
    return transposed(vectors) if by_columns else vectors


def six_of_rotation(matrix: Matrix, by_columns: bool = False) -> list[Any]:
    """Its first two rows, or columns, as 6 numbers [...]."""
    vectors = transposed(matrix) if by_columns else matrix
    return [*vectors[0], *vectors[1]]


def transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def product(a: Matrix, b: Matrix) -> Matrix:
    """The rotation b followed by a."""
    columns = transposed(b)
    return [[_dot(row, column) for column in columns] for row in a]


def turned(matrix: Matrix, vector: Vector) -> list[Any]:
    """A vector [3] of arrays after a rotation."""
    return [_dot(row, vector) for row in matrix]


def split(values: Any) -> list[Any]:
    """Numbers [..., n] as n arrays [...]."""
    return [values[..., number] for number in range(values.shape[-1])]


def joined(numbers: Vector) -> Any:
    """n arrays [...] of one shape as [..., n]."""
    if isinstance(numbers[0], np.ndarray):
        return np.stack(numbers, -1)
    return _torch().stack(list(numbers), -1)


def concatenated(parts: Sequence[Any], axis: int) -> Any:
    """Arrays, or tensors, one after another along an axis."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis)
    return _torch().cat(list(parts), axis)


def doubled(values: Any) -> Any:
    """In float64, where the device has it, so that nothing is lost on the way and back."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    return values.float() if values.device.type == "mps" else values.double()


def _torch() -> Any:
    return sys.modules["torch"]  # whoever has tensors has imported it


def _dot(a: Vector, b: Vector) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vector: Vector) -> list[Any]:
    """At length 1; NaN where there is no direction."""
    with np.errstate(all="ignore"):
        length = _dot(vector, vector) ** 0.5
        length = length * (length > TINY) / (length > TINY)  # 0 / 0 where it is too short
        return [number / length for number in vector]
