"""Unit quaternions [4], and actions of which some entries are quaternions."""

import math

import numpy as np

from dipole.deploy.robots.robot import ActionSpec
from dipole.deploy.types import Floats


def unit(q: Floats) -> Floats:
    """The quaternion at length 1. Raises ValueError for one without a direction."""
    length = float(np.linalg.norm(q))
    if length < 1e-6:
        raise ValueError(f"the quaternion {q.tolist()} has no direction")
    return q / length


def angle(a: Floats, b: Floats) -> float:
    """Radians between two orientations, 0 to pi; q and -q are the same orientation."""
    dot = abs(float(np.dot(a, b)))
    return 2.0 * math.acos(min(1.0, dot))


def slerp(a: Floats, b: Floats, t: float) -> Floats:
    """From a (t = 0) to b (t = 1) at constant angular speed, the short way (Shoemake, 1985)."""
    a, b = unit(a), unit(b)
    if np.dot(a, b) < 0:
        b = -b
    theta = math.acos(min(1.0, float(np.dot(a, b))))
    if theta < 1e-6:
        return unit(a + t * (b - a))
    return (math.sin((1 - t) * theta) * a + math.sin(t * theta) * b) / math.sin(theta)


def mix(a: Floats, b: Floats, t: float, spec: ActionSpec) -> Floats:
    """Between two actions [A]: a at t = 0, b at t = 1; quaternions go along the arc."""
    mixed = np.array(b if t == 1.0 else a + t * (b - a), np.float64)
    if t != 1.0:
        for start in spec.quaternions:
            part = slice(start, start + 4)
            mixed[part] = slerp(a[part], b[part], t)
    return mixed
