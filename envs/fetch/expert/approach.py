"""The way to the place behind what is pushed: beside it where that is free, else above it."""

import numpy as np

from dipole.envs.fetch.expert.motion import Floats, Scene

PASSING = 0.056  # from the object's centre, within which the gripper passes above, metres
CLEARED = 0.045  # above the object's centre, at which it may pass
THERE = 0.012  # sideways from a place, at which the gripper comes down


def next_place(scene: Scene, place: Floats, low: float, height: float) -> Floats:
    """Where the gripper goes next, [3], on its way to `place` [2] at the height `low`.

    height: Above the object's centre, at which it travels where the object is in the way. Metres.
    """
    here = scene.gripper[:2]
    away = float(np.linalg.norm(here - place))
    if away < THERE or distance_to_way(here, place, scene.object[:2]) > PASSING:
        return np.append(place, low)
    above = float(scene.object[2]) + height
    if scene.gripper[2] < scene.object[2] + CLEARED:
        return np.append(here, above)
    return np.append(place, above)


def distance_to_way(start: Floats, end: Floats, obstacle: Floats) -> float:
    """The least distance from a straight way to an obstacle, [2] each."""
    way = end - start
    share = np.clip((obstacle - start) @ way / max(float(way @ way), 1e-12), 0.0, 1.0)
    return float(np.linalg.norm(start + share * way - obstacle))
