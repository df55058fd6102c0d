"""Many rotations at once: [..., 4] unit quaternions x, y, z, w, and how frames of data write them.

The representations are those of rotation.py, and Euler angles beside them. Numbers that are no
rotation (a quaternion of length 0, two parallel rows of a matrix) become NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.transforms.pose_arithmetic import rotation_of_six
from dipole.data.transforms.rotation import (
    SIX_COLUMNS,
    SIZES,
    TINY,
    VECTOR,
    WXYZ,
    XYZW,
    matrix,
    multiply,
)

Floats = NDArray[np.float64]
AXES = {"x": 0, "y": 1, "z": 2}


def to_quaternions(values: NDArray[Any], representation: str) -> Floats:
    """Unit quaternions [..., 4] of rotations [..., SIZES[representation]]."""
    numbers = np.asarray(values, np.float64)
    if representation in (XYZW, WXYZ):
        return _unit(numbers if representation == XYZW else np.roll(numbers, -1, -1))
    if representation == VECTOR:
        return _exponential(numbers)
    return _of_matrices(rotation_of_six(numbers, representation == SIX_COLUMNS))


def from_quaternions(q: Floats, representation: str) -> Floats:
    """Rotations as they are written, [..., SIZES[representation]], of unit quaternions [..., 4].

    Of the two quaternions of a rotation the one with w >= 0 is written.
    """
    if representation in (XYZW, WXYZ):
        q = canonical_sign(q)
        return q if representation == XYZW else np.roll(q, 1, -1)
    if representation == VECTOR:
        return _logarithm(canonical_sign(q))
    m = to_matrices(q)
    if representation == SIX_COLUMNS:
        m = np.swapaxes(m, -1, -2)
    return m.reshape(*q.shape[:-1], 9)[..., : SIZES[representation]]


def canonical_sign(q: NDArray[Any], towards: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)) -> Floats:
    """Of q and -q [..., 4] the one on the side of `towards`; where neither is, the one whose
    first number other than 0 is positive."""
    q = np.asarray(q, np.float64)
    side = q @ np.asarray(towards, np.float64)
    first = np.take_along_axis(q, np.argmax(q != 0, -1)[..., None], -1)[..., 0]
    return np.asarray(np.where(np.where(side == 0, first, side)[..., None] < 0, -q, q))


def to_matrices(q: Floats) -> Floats:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    entries: Any = matrix(np.moveaxis(q, -1, 0))  # type: ignore[arg-type]
    return np.stack([np.stack(row, -1) for row in entries], -2)


def from_euler(angles: NDArray[Any], sequence: str) -> Floats:
    """Unit quaternions [..., 4] of Euler angles [..., 3], radians.

    sequence: axes in order, as scipy writes them: "xyz" about fixed axes, "XYZ" about moving ones.
    """
    angles = np.asarray(angles, np.float64)
    turns = [_about(axis, angles[..., i]) for i, axis in enumerate(sequence.lower())]
    if sequence.isupper():
        turns.reverse()
    q = turns[0]
    for later in turns[1:]:
        q = _product(later, q)
    return q


def to_euler(q: Floats, sequence: str) -> Floats:
    """Euler angles [..., 3], radians, of unit quaternions: see `from_euler`.

    The middle angle is in [-pi/2, pi/2] for three different axes, else in [0, pi]. Where the first
    and the last turn about one axis, the last (for moving axes the first) is 0.
    """
    order = sequence.lower() if sequence.islower() else sequence.lower()[::-1]
    found = _fixed_angles(to_matrices(q), [AXES[axis] for axis in order])
    return found if sequence.islower() else found[..., ::-1]


def slerp(a: Floats, b: Floats, t: Floats) -> Floats:
    """From a (t = 0) to b (t = 1), the short way (Shoemake, 1985). a, b: [..., 4]; t: [...]."""
    a, b = _unit(a), _unit(b)
    b = np.where((a * b).sum(-1, keepdims=True) < 0, -b, b)
    # Half the angle between them from both chords: exact near 0 and near pi.
    half = np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))[..., None]
    t = np.asarray(t, np.float64)[..., None]
    near = np.sin(2 * half) < TINY
    sine = np.where(near, 1.0, np.sin(2 * half))
    first = np.where(near, 1 - t, np.sin((1 - t) * 2 * half) / sine)
    last = np.where(near, t, np.sin(t * 2 * half) / sine)
    return _unit(first * a + last * b)


def _unit(vectors: NDArray[Any]) -> Floats:
    vectors = np.asarray(vectors, np.float64)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        sound = (lengths > TINY) & (lengths < np.inf)
        return np.where(sound, vectors / np.where(sound, lengths, 1.0), np.nan)


def _product(a: Floats, b: Floats) -> Floats:
    pair: Any = (np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0))
    return np.stack(multiply(*pair), -1)


def _about(axis: str, angles: Floats) -> Floats:
    q = np.zeros((*angles.shape, 4))
    q[..., AXES[axis]], q[..., 3] = np.sin(angles / 2), np.cos(angles / 2)
    return q


def _exponential(vectors: Floats) -> Floats:
    theta = np.linalg.norm(vectors, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return _unit(np.concatenate([_half_sine(theta) * vectors, np.cos(theta / 2)], -1))


def _half_sine(theta: Floats) -> Floats:
    """sin(theta / 2) / theta; its series near 0."""
    small = theta < 1e-4
    series, closed = 0.5 - theta * theta / 48, np.sin(theta / 2) / np.where(small, 1.0, theta)
    return np.asarray(np.where(small, series, closed))


def _logarithm(q: Floats) -> Floats:
    """q: with w >= 0."""
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    half = np.arctan2(sine, q[..., 3:])
    small = sine < 1e-8
    return np.asarray(np.where(small, 2.0, 2 * half / np.where(small, 1.0, sine)) * q[..., :3])


def _of_matrices(m: Floats) -> Floats:
    """The largest of the quaternion's numbers first (Shepperd, 1978)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(m, (-2, -1), (0, 1))
    squares = (1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz)
    candidates = np.stack(
        [
            np.stack([squares[0], xy + yx, xz + zx, zy - yz], -1),
            np.stack([xy + yx, squares[1], yz + zy, xz - zx], -1),
            np.stack([xz + zx, yz + zy, squares[2], yx - xy], -1),
            np.stack([zy - yz, xz - zx, yx - xy, squares[3]], -1),
        ]
    )
    largest = np.argmax(np.stack(squares), 0)
    chosen = np.take_along_axis(candidates, largest[None, ..., None], 0)[0]
    return _unit(chosen)


def _fixed_angles(m: Floats, axes: list[int]) -> Floats:
    """Angles about fixed axes, first to last, of m [..., 3, 3] (Shuster, 1993)."""
    i, j, k = axes
    even = 1.0 if (j - i) % 3 == 1 else -1.0
    if i == k:
        k = 3 - i - j
        middle = np.arctan2(np.hypot(m[..., i, j], m[..., i, k]), m[..., i, i])
        locked = np.sin(middle) < TINY
        first = np.arctan2(m[..., i, j], even * m[..., i, k])
        last = np.arctan2(m[..., j, i], -even * m[..., k, i])
        level = np.arctan2(even * m[..., k, j], m[..., j, j])
        sign = np.where(m[..., i, i] > 0, 1.0, -1.0)
        return np.stack(
            [np.where(locked, sign * level, first), middle, np.where(locked, 0.0, last)], -1
        )
    across = np.hypot(m[..., i, i], m[..., j, i])
    middle = np.arctan2(-even * m[..., k, i], across)
    locked = across < TINY
    first = np.arctan2(even * m[..., k, j], m[..., k, k])
    last = np.arctan2(even * m[..., j, i], m[..., i, i])
    level = np.arctan2(-even * m[..., j, k], m[..., j, j])
    return np.stack([np.where(locked, level, first), middle, np.where(locked, 0.0, last)], -1)
