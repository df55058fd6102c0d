"""Rotations: unit quaternions [x, y, z, w], and how actions and readings write them.

    quaternion_xyzw, quaternion_wxyz    4 numbers; q and -q are the same rotation
    rotation_vector                     3 numbers: axis times angle, radians
    rotation_matrix                     9 numbers: row after row
    rotation_6d                         6 numbers: the first two rows of the matrix, as PyTorch3D,
                                        robomimic and UMI write it
    rotation_6d_columns                 6 numbers: the first two columns, as Zhou et al. (2019)

Euler angles are not among them: they jump. scipy does the same and more, but is 35 MB on a robot's
computer; tests compare every function here with it. Numbers are plain floats, not arrays: with
three or four of them that is several times faster. For many rotations at once see
rotation_arrays.py.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

XYZW, WXYZ = "quaternion_xyzw", "quaternion_wxyz"
VECTOR, MATRIX = "rotation_vector", "rotation_matrix"
SIX, SIX_COLUMNS = "rotation_6d", "rotation_6d_columns"
SIZES = {XYZW: 4, WXYZ: 4, VECTOR: 3, MATRIX: 9, SIX: 6, SIX_COLUMNS: 6}
TINY = 1e-6
MOST = 1e6  # radians: what is larger has no angle left

Numbers = Sequence[float]


def dot(a: Numbers, b: Numbers) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def scaled(share: float, a: Numbers) -> list[float]:
    return [share * number for number in a]


def unit(q: Numbers) -> list[float]:
    """Numbers at length 1. Raises ValueError if they have no direction."""
    length = math.hypot(*q)
    if not TINY < length < math.inf:
        raise ValueError(f"the rotation {[*q]} has no direction")
    return [number / length for number in q]


def angle(a: Numbers, b: Numbers) -> float:
    """Radians between two rotations, 0 to pi."""
    a, b = unit(a), unit(b)
    apart = min(math.dist(a, b), math.dist(a, scaled(-1.0, b)))
    return 4.0 * math.asin(min(1.0, apart / 2.0))


def multiply(a: Numbers, b: Numbers) -> list[float]:
    """The rotation b followed by a: the product of two quaternions [4]."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return [
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ]


def inverse(q: Numbers) -> list[float]:
    """The rotation back: the conjugate of a unit quaternion [4]."""
    return [-q[0], -q[1], -q[2], q[3]]


def exponential(vector: Numbers) -> list[float]:
    """The quaternion [4] of a rotation vector [3]."""
    theta = math.hypot(*vector)
    # sin(theta / 2) / theta; its series near 0
    share = math.sin(theta / 2) / theta if theta > 1e-4 else 0.5 - theta * theta / 48
    return [*scaled(share, vector), math.cos(theta / 2)]


def logarithm(q: Numbers) -> list[float]:
    """The rotation vector [3] of a unit quaternion [4], at most pi long: the short way."""
    x, y, z, w = q
    sine = math.hypot(x, y, z)
    half = math.atan2(sine, abs(w))
    share = math.copysign(2 * half / sine if sine > 1e-8 else 2.0, w)
    return [share * x, share * y, share * z]


def between(a: Numbers, b: Numbers) -> list[float]:
    """The rotation vector [3] that turns a into b the short way, in the fixed frame."""
    return logarithm(multiply(b, inverse(a)))


def slerp(a: Numbers, b: Numbers, t: float) -> list[float]:
    """From a (t = 0) to b (t = 1) at constant angular speed, the short way (Shoemake, 1985)."""
    a = unit(a)
    return unit(multiply(exponential(scaled(t, between(a, unit(b)))), a))


def mean(quaternions: Floats, weights: Floats) -> list[float]:
    """The weighted mean [4] of rotations [n, 4] (Markley et al., 2007, equation 13)."""
    rows = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    _, vectors = np.linalg.eigh((rows * weights[:, None]).T @ rows)
    return [float(number) for number in vectors[:, -1]]


def to_quaternion(values: Numbers | Floats, representation: str) -> list[float]:
    """The unit quaternion [4] of a rotation as an action writes it.

    Raises ValueError if the values describe no rotation.
    """
    numbers = values.tolist() if isinstance(values, np.ndarray) else [*values]
    if representation == XYZW:
        return unit(numbers)
    if representation == WXYZ:
        return unit([*numbers[1:], numbers[0]])
    if representation == VECTOR:
        if not math.hypot(*numbers) <= MOST:
            raise ValueError(f"the angle of the rotation {numbers} is not finite, or is too large")
        return unit(exponential(numbers))
    rows = _matrix_of_six(numbers[:6])  # of a matrix's three rows the third follows
    return _from_matrix(_transposed(rows) if representation == SIX_COLUMNS else rows)


def from_quaternion(q: Numbers, representation: str, near: Numbers | Floats) -> list[float]:
    """A unit quaternion [4] as an action writes it: of equal ones the nearest to another."""
    if representation in (XYZW, WXYZ):
        values = [*q] if representation == XYZW else [q[3], *q[:3]]
        return scaled(-1.0, values) if dot(values, [*near]) < 0 else values
    if representation != VECTOR:
        rows = matrix(q) if representation != SIX_COLUMNS else _transposed(matrix(q))
        return [number for row in rows for number in row][: SIZES[representation]]
    vector = logarithm(q)
    theta = math.hypot(*vector)
    if theta < TINY:
        return vector
    once_more = 2 * math.pi / theta  # the same rotation, a turn further or less far
    candidates = [scaled(1 + turns * once_more, vector) for turns in (0, -1, 1)]
    return min(candidates, key=lambda each: math.dist(each, [*near]))


def matrix(q: Numbers) -> list[list[float]]:
    """The rotation matrix [3][3] of a unit quaternion [4]."""
    x, y, z, w = q
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]


def _transposed(m: Sequence[Numbers]) -> list[list[float]]:
    return [list(column) for column in zip(*m, strict=True)]


def _matrix_of_six(values: Numbers) -> list[list[float]]:
    """Gram-Schmidt over the two rows (Zhou et al., 2019, equation 15)."""
    first, second = unit(values[:3]), unit(values[3:])
    along = dot(first, second)
    second = unit([s - along * f for f, s in zip(first, second, strict=True)])
    (a, b, c), (d, e, f) = first, second
    return [first, second, [b * f - c * e, c * d - a * f, a * e - b * d]]


def _from_matrix(m: Sequence[Numbers]) -> list[float]:
    """The unit quaternion [4] of a matrix: the largest of its entries first (Shepperd, 1978)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = m
    squares = (1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz)
    products = (
        (squares[0], xy + yx, xz + zx, zy - yz),
        (xy + yx, squares[1], yz + zy, xz - zx),
        (xz + zx, yz + zy, squares[2], yx - xy),
        (zy - yz, xz - zx, yx - xy, squares[3]),
    )
    return unit(products[squares.index(max(squares))])
