"""Scales of Fetch's motion, and what its actions may say."""

from dipole.data.store.metadata import DELTA

METRES_PER_ACTION = 0.0331  # that the gripper moves in a step at an action of 1, unhindered
STEP = 0.04  # seconds
ABSOLUTE = "absolute"
ACTIONS = (DELTA, ABSOLUTE)
# Bounds of absolute actions: around where the gripper gets to, metres; the fingers' command.
REACHED = (((0.8, 0.2, 0.35), -1.0), ((1.75, 1.3, 1.1), 1.0))
