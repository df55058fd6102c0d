"""Rotations: unit quaternions [x, y, z, w], and how actions and readings write them.

    quaternion_xyzw, quaternion_wxyz    4 numbers; q and -q are the same rotation
    rotation_vector                     3 numbers: axis times angle, radians
    rotation_6d                         6 numbers: the first two rows of the matrix (Zhou et al.,
                                        2019, as PyTorch3D, robomimic and UMI write it)

Euler angles are not among them: they jump. scipy does the same and more, but is 35 MB on a robot's
computer; tests compare every function here with it.
"""

import math

import numpy as np

from dipole.deploy.types import Floats

XYZW, WXYZ = "quaternion_xyzw", "quaternion_wxyz"
VECTOR, SIX = "rotation_vector", "rotation_6d"
SIZES = {XYZW: 4, WXYZ: 4, VECTOR: 3, SIX: 6}
TINY = 1e-6


def unit(q: Floats) -> Floats:
    """The quaternion [4] at length 1. Raises ValueError if it has no direction."""
    length = float(np.linalg.norm(q))
    if not length > TINY:
        raise ValueError(f"the quaternion {q.tolist()} has no direction")
    return q / length


def angle(a: Floats, b: Floats) -> float:
    """Radians between two rotations, 0 to pi."""
    a, b = unit(a), unit(b)
    if np.dot(a, b) < 0:
        b = -b
    return 4.0 * math.asin(min(1.0, float(np.linalg.norm(a - b)) / 2.0))


def multiply(a: Floats, b: Floats) -> Floats:
    """The rotation b followed by a: the product of two quaternions [4]."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return np.array([
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ])  # fmt: skip


def inverse(q: Floats) -> Floats:
    """The rotation back: the conjugate of a unit quaternion [4]."""
    return np.array([-q[0], -q[1], -q[2], q[3]])


def exponential(vector: Floats) -> Floats:
    """The quaternion [4] of a rotation vector [3]."""
    theta = math.sqrt(float(vector @ vector))
    # sin(theta / 2) / theta; its series near 0
    share = math.sin(theta / 2) / theta if theta > 1e-4 else 0.5 - theta * theta / 48
    return np.array([*(share * vector), math.cos(theta / 2)])


def logarithm(q: Floats) -> Floats:
    """The rotation vector [3] of a unit quaternion [4], at most pi long: the short way."""
    q = -q if q[3] < 0 else q
    sine = math.sqrt(float(q[:3] @ q[:3]))
    half = math.atan2(sine, float(q[3]))
    share = 2 * half / sine if sine > 1e-8 else 2.0
    return np.asarray(share * q[:3], np.float64)


def between(a: Floats, b: Floats) -> Floats:
    """The rotation vector [3] that turns a into b the short way, in the fixed frame."""
    return logarithm(multiply(b, inverse(a)))


def slerp(a: Floats, b: Floats, t: float) -> Floats:
    """From a (t = 0) to b (t = 1) at constant angular speed, the short way (Shoemake, 1985)."""
    a, b = unit(a), unit(b)
    if np.dot(a, b) < 0:
        b = -b
    theta = math.acos(min(1.0, float(np.dot(a, b))))
    if theta < TINY:
        return unit(a + t * (b - a))
    return (math.sin((1 - t) * theta) * a + math.sin(t * theta) * b) / math.sin(theta)


def mean(quaternions: Floats, weights: Floats) -> Floats:
    """The weighted mean [4] of rotations [n, 4] (Markley et al., 2007, equation 13)."""
    rows = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    _, vectors = np.linalg.eigh((rows * weights[:, None]).T @ rows)
    return np.asarray(vectors[:, -1], np.float64)


def to_quaternion(values: Floats, representation: str) -> Floats:
    """The unit quaternion [4] of a rotation as an action writes it.

    Raises ValueError if the values describe no rotation.
    """
    if representation == XYZW:
        return unit(values)
    if representation == WXYZ:
        return unit(values[[1, 2, 3, 0]])
    if representation == VECTOR:
        return exponential(values)
    return _from_matrix(_matrix_of_six(values))


def from_quaternion(q: Floats, representation: str, near: Floats) -> Floats:
    """A unit quaternion [4] as an action writes it: of equal ones the nearest to another."""
    if representation in (XYZW, WXYZ):
        values = q if representation == XYZW else q[[3, 0, 1, 2]]
        return -values if values @ near < 0 else np.array(values)
    if representation == SIX:
        return matrix(q)[:2].ravel()
    vector = logarithm(q)
    theta = float(np.linalg.norm(vector))
    if theta < TINY:
        return vector
    turns = vector / theta * (2 * math.pi)  # the same rotation, once more round
    candidates = (vector, vector - turns, vector + turns)
    return min(candidates, key=lambda each: float(np.linalg.norm(each - near)))


def matrix(q: Floats) -> Floats:
    """The rotation matrix [3, 3] of a unit quaternion [4]."""
    x, y, z, w = q
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _matrix_of_six(values: Floats) -> Floats:
    """Gram-Schmidt over the two rows (Zhou et al., 2019, equation 15)."""
    first, second = values[:3], values[3:]
    length = float(np.linalg.norm(first))
    if not length > TINY:
        raise ValueError(f"the rotation {values.tolist()} has no first row")
    first = first / length
    second = second - (first @ second) * first
    length = float(np.linalg.norm(second))
    if not length > TINY:
        raise ValueError(f"the rotation {values.tolist()} has two parallel rows")
    second = second / length
    return np.stack([first, second, np.cross(first, second)])


def _from_matrix(m: Floats) -> Floats:
    """The unit quaternion [4] of a matrix: the largest of its entries first (Shepperd, 1978)."""
    xx, yy, zz = m[0, 0], m[1, 1], m[2, 2]
    squares = np.array([1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz])
    largest = int(np.argmax(squares))
    products = np.array([
        [squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
        [m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
        [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
    ])  # fmt: skip
    return unit(products[largest])
