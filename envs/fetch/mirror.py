"""Fetch's left and right: `dipole data convert ... --mirror fetch`, or `fetch_absolute` where
actions are places.

The gripper begins in the plane y = 0.749 m, around which goals and objects are drawn; the table
and the gripper are alike on both sides. The arm is not, but the gripper goes where it is told.
"""

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import DataError
from dipole.data.sources.combine.mirrored import MIRRORS, Mirror, Reflection
from dipole.data.store.metadata import DELTA
from dipole.envs.fetch.geometry import ABSOLUTE

MIDDLE = 0.749  # metres: y of the plane
VECTOR = (1.0, -1.0, 1.0)  # signs of x, y, z; also of a position's offset
TURN = (-1.0, 1.0, -1.0)  # of what turns around these axes: Euler angles, angular velocities
POSITIONS = {10: (1,), 25: (1, 4)}  # columns of a state that are a y of its own
FINGERS = {10: (3, 4, 8, 9), 25: (9, 10, 23, 24)}  # two pairs, right and left
SIGNS = {
    10: (*VECTOR, 1, 1, *VECTOR, 1, 1),
    25: (*VECTOR, *VECTOR, *VECTOR, 1, 1, *TURN, *VECTOR, *TURN, *VECTOR, 1, 1),
}


def mirrored_state(state: NDArray[np.floating]) -> NDArray[np.floating]:
    """A "state" [..., 25] (reach: [..., 10]) in the mirror. Raises DataError for other widths."""
    width = state.shape[-1]
    if width not in SIGNS:
        raise DataError(f"fetch's mirror knows states of 25 numbers (reach: 10), not of {width}")
    mirrored = state * np.asarray(SIGNS[width], state.dtype)
    mirrored[..., POSITIONS[width]] += 2 * MIDDLE
    right, left, right_velocity, left_velocity = FINGERS[width]
    mirrored[..., FINGERS[width]] = state[..., (left, right, left_velocity, right_velocity)]
    return mirrored


def mirrored_place(place: NDArray[np.floating]) -> NDArray[np.floating]:
    """Places [..., 3], metres, and actions [..., 4] that are places, in the mirror."""
    mirrored = mirrored_vector(place)
    mirrored[..., 1] += 2 * MIDDLE
    return mirrored


def mirrored_vector(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    """Differences of places [..., 3], and actions [..., 4] that are moves, in the mirror."""
    mirrored = np.array(vector)
    mirrored[..., 1] *= -1
    return mirrored


REFLECTIONS = {
    "state": Reflection(mirrored_state),
    "achieved_goal": Reflection(mirrored_place, (3,)),
    "desired_goal": Reflection(mirrored_place, (3,)),
    "goal_offset": Reflection(mirrored_vector, (3,)),
}
MOVES, PLACES = Reflection(mirrored_vector, (4,)), Reflection(mirrored_place, (4,))
MIRRORS.add("fetch")(Mirror({**REFLECTIONS, "action": MOVES}, "fetch", DELTA))
MIRRORS.add("fetch_absolute")(Mirror({**REFLECTIONS, "action": PLACES}, "fetch", ABSOLUTE))
