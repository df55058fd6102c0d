"""How a puck slides to rest in MuJoCo, whose cone of friction is a pyramid unless told otherwise.

With that pyramid (|fx| + |fy| <= μ N) friction acts on the larger component of a velocity first:
in the diagonal coordinates u = x + y and w = x - y each component is slowed down by μ g for itself,
whatever the other is. So a puck runs along a curve, and both ways are closed formulas:

    stop   u = p |p| / (2 μ g)                     p = vx + vy, and so for w
    launch p = sign(u) sqrt(2 μ g |u|)
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DIAGONALS = np.array([[1.0, 1.0], [1.0, -1.0]])  # from x, y to u, w; twice its own inverse
DECELERATION = 0.95  # μ g of Fetch's puck, m/s²: 0.98 by its numbers, and as measured here


def stopping_way(velocity: Floats) -> Floats:
    """Where a puck comes to rest from where it is, [2] metres. velocity: [2], m/s."""
    speeds = DIAGONALS @ velocity
    way: Floats = DIAGONALS @ (speeds * np.abs(speeds)) / (4 * DECELERATION)
    return way


def launch_velocity(way: Floats) -> Floats:
    """The velocity [2], m/s, with which a puck comes to rest after a way [2], metres."""
    ways = DIAGONALS @ way
    velocity: Floats = DIAGONALS @ (np.sign(ways) * np.sqrt(2 * DECELERATION * np.abs(ways))) / 2
    return velocity
