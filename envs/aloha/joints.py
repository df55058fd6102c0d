"""Joints of two ViperX 300 arms in the order of ALOHA's public datasets, and their grippers.

    state, action  [14]   left waist, shoulder, elbow, forearm roll, wrist angle, wrist rotate,
                          left gripper, and the same of the right arm
    MuJoCo         [16]   the same with two fingers, that mirror each other, for each gripper

Joints are in radians. A gripper is 0 where it is closed and 1 where it is open (Zhao et al., 2023,
"Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware").
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIDES = ("left", "right")
ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
NAMES = tuple(f"{side}_{joint}" for side in SIDES for joint in (*ARM, "gripper"))
FINGER_CLOSED, FINGER_OPEN = 0.01844, 0.058  # metres from the middle, of 0 and 1
START = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.02239, -0.02239] * 2)  # MuJoCo's, [16]
GRIPPERS = [6, 13]  # in state and action
_FINGER = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]  # of MuJoCo's, without the second finger


def from_mujoco(positions: Floats) -> Floats:
    """State [14] of MuJoCo's positions or control values [16]."""
    state: Floats = positions[_FINGER]
    state[GRIPPERS] = (state[GRIPPERS] - FINGER_CLOSED) / (FINGER_OPEN - FINGER_CLOSED)
    return state


def velocity_from_mujoco(velocities: Floats) -> Floats:
    """Joints' velocities [14] of MuJoCo's [16]: rad/s, and the share of a gripper's way per s."""
    velocity: Floats = velocities[_FINGER]
    velocity[GRIPPERS] /= FINGER_OPEN - FINGER_CLOSED
    return velocity


def to_mujoco(action: Floats) -> Floats:
    """MuJoCo's control values [16] of an action [14]: target joints and normalised grippers."""
    control: Floats = np.insert(action, [7, 14], 0.0)
    for finger in (6, 14):
        control[finger] = control[finger] * (FINGER_OPEN - FINGER_CLOSED) + FINGER_CLOSED
        control[finger + 1] = -control[finger]
    return control
