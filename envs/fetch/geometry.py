"""Sizes of Fetch's world: metres, seconds, kilogrammes."""

METRES_PER_ACTION = 0.0331  # that the gripper moves in a step at an action of 1, unhindered
STEP = 0.04  # seconds
NEAR = 0.05  # from the goal, at which it is reached
TABLE = 0.40  # height of its top
HALF_BLOCK = 0.025  # half of the block's width; also the puck's radius
GRAVITY = 9.81
PUCK_FRICTION = 0.1  # of the puck on the table
