"""Rotations as matrices, for numpy's arrays and PyTorch's tensors alike, which it differentiates
through: only what both have is used, and what differs has a function here."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from dipole.data.transforms.rotation import TINY


def rotation_of_six(numbers: Any, by_columns: bool = False) -> Any:
    """The matrix [..., 3, 3] of 6 numbers, by Gram-Schmidt (Zhou et al., 2019, equation 15).

    by_columns: they are its first two columns, not rows. NaN where they are no rotation.
    """
    first, second = _unit(numbers[..., :3]), _unit(numbers[..., 3:6])
    second = _unit(second - (first * second).sum(-1)[..., None] * first)
    rows = stacked([first, second, _cross(first, second)], -2)
    return transposed(rows) if by_columns else rows


def six_of_rotation(matrices: Any, by_columns: bool = False) -> Any:
    """The first two rows of matrices [..., 3, 3], or columns, as 6 numbers."""
    rows = transposed(matrices) if by_columns else matrices
    return concatenated([rows[..., 0, :], rows[..., 1, :]], -1)


def transposed(matrices: Any) -> Any:
    """The rotation back."""
    return matrices.swapaxes(-1, -2)


def turned(matrices: Any, vectors: Any) -> Any:
    """Vectors [..., 3] after rotations [..., 3, 3]."""
    return (matrices @ vectors[..., None])[..., 0]


def stacked(parts: Sequence[Any], axis: int) -> Any:
    """Arrays, or tensors, beside each other along a new axis."""
    if isinstance(parts[0], np.ndarray | np.generic):
        return np.stack(parts, axis)
    return _torch().stack(list(parts), axis)


def concatenated(parts: Sequence[Any], axis: int) -> Any:
    """Arrays, or tensors, one after another along an axis."""
    if isinstance(parts[0], np.ndarray | np.generic):
        return np.concatenate(parts, axis)
    return _torch().cat(list(parts), axis)


def doubled(values: Any) -> Any:
    """In float64, where the device has it, so that nothing is lost on the way and back."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    return values.float() if values.device.type == "mps" else values.double()


def _torch() -> Any:
    return sys.modules["torch"]  # whoever has tensors has imported it


def _cross(a: Any, b: Any) -> Any:
    ax, ay, az = (a[..., number] for number in range(3))
    bx, by, bz = (b[..., number] for number in range(3))
    return stacked([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _unit(vectors: Any) -> Any:
    """At length 1; NaN where there is no direction."""
    with np.errstate(all="ignore"):
        lengths = (vectors * vectors).sum(-1)[..., None] ** 0.5
        has_direction = lengths > TINY
        return vectors / (lengths * has_direction / has_direction)  # 0 / 0 is NaN
