"""Where hands go: poses of a pinch from where an object lies."""

import numpy as np

from dipole.envs.aloha.expert.pose import Pose, rotation_of
from dipole.envs.aloha.joints import Floats

QUARTER, HALF = np.pi / 2, np.pi  # turns after which a cube and a peg look the same
LOWEST = 0.0215  # metres of a pinch above the table: the fingertips clear it by 2 mm


def facing(side: str, pitch: float, yaw: float = 0.0) -> Floats:
    """Rotation [3, 3] of a hand that points away from its arm's base and down.

    pitch: Down from the horizontal, radians. yaw: Turned about the vertical, radians. Its fingers
    close horizontally.
    """
    away = 1.0 if side == "left" else -1.0
    forward = np.array([away * np.cos(pitch), 0.0, -np.sin(pitch)])
    across = np.array([0.0, away, 0.0])
    rotation = np.stack([forward, across, np.cross(forward, across)], axis=1)
    turned: Floats = rotation_of(np.array([0.0, 0.0, yaw])) @ rotation
    return turned


def yaw_of(pose: Pose, turn: float) -> float:
    """By how much an object is turned about the vertical, -turn / 2 to turn / 2, radians.

    turn: After which it looks the same: QUARTER or HALF.
    """
    yaw = float(np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]))
    return (yaw + turn / 2) % turn - turn / 2


def from_above(side: str, lying: Pose, pitch: float, turn: float) -> Pose:
    """A hand that grasps what lies there, across it. turn: As in `yaw_of`."""
    x, y, z = lying.position
    return Pose(np.array([x, y, max(z, LOWEST)]), facing(side, pitch, yaw_of(lying, turn)))


def level(side: str, position: Floats) -> Pose:
    """A hand that points along the table, its fingers above each other."""
    rolled = facing(side, 0.0) @ rotation_of(np.array([QUARTER, 0.0, 0.0]))
    return Pose(position, rolled)
