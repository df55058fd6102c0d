"""Scales of Fetch's motion."""

METRES_PER_ACTION = 0.0331  # that the gripper moves in a step at an action of 1, unhindered
STEP = 0.04  # seconds
