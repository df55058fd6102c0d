"""A cube from the right hand to the left one."""

import numpy as np

from dipole.envs.aloha.expert.arms import Arm, Script, TwoArms
from dipole.envs.aloha.expert.grasps import QUARTER, from_above, level
from dipole.envs.aloha.expert.pose import Pose
from dipole.envs.aloha.expert.style import Style

CUBE = 0
HELD = 0.03  # metres from the hand at which a cube is still in it
ALOFT = 0.04  # metres above the table of a cube that does not lie there
BEFORE = 0.002  # metres that the left hand stays before the cube's middle
READY = 0.12  # metres from the meeting at which the left hand waits
RETREAT = 0.1
SLOW = 0.6  # share of the speed, near the cube
OPEN, CLOSED = 1.0, 0.0


def transfer(arms: TwoArms, style: Style) -> Script:
    """Grasp, lift, meet, hand over; again, where the cube was lost."""
    make_ready(arms, style)
    while not in_hand(arms, arms.left):
        while not in_hand(arms, arms.right):  # it may be, where a policy acted before
            yield from grasp_cube(arms, style)
        arms.right.move(Pose(style.meeting, arms.right.pose.rotation), style.speed)
        yield from arms.until_still()
        yield from arms.wait(style.pause)
        if in_hand(arms, arms.right):
            yield from hand_over(arms, style)
    arms.left.move(arms.left.pose.moved(x=-READY), style.speed * SLOW)
    yield from arms.until_still()


def make_ready(arms: TwoArms, style: Style) -> None:
    """Begin to bring the left hand, open, beside the meeting."""
    arms.left.grip(OPEN)
    arms.left.move(level("left", style.meeting).moved(x=-READY), style.speed)


def grasp_cube(arms: TwoArms, style: Style) -> Script:
    """The right hand goes to where the cube lies, closes and lifts."""
    right = arms.right
    right.grip(OPEN)

    def grasp() -> Pose:
        pose = from_above("right", arms.object(CUBE), style.pitch, QUARTER)
        return pose.moved(x=style.offset[0])

    right.move(grasp().moved(z=style.approach), style.speed)
    yield from arms.until_still()
    right.move(grasp(), style.speed * SLOW)  # by now it has come to rest
    yield from arms.until_still()
    yield from arms.wait(style.pause)
    right.grip(CLOSED)
    yield from arms.until_firm()
    yield from arms.wait(style.pause)
    right.move(right.pose.moved(z=style.approach), style.speed * SLOW)
    yield from arms.until_still()


def in_hand(arms: TwoArms, arm: Arm) -> bool:
    """Whether the cube is in a hand, above the table."""
    near = np.linalg.norm(arms.in_hand(arm, CUBE).position) < HELD
    return bool(near and arms.object(CUBE).position[2] > ALOFT)


def hand_over(arms: TwoArms, style: Style) -> Script:
    """The left hand takes the cube, the right one lets go and retreats."""
    left, right = arms.left, arms.right
    left.move(level("left", arms.object(CUBE).position).moved(x=-BEFORE), style.speed * SLOW)
    yield from arms.until_still()
    yield from arms.wait(style.pause)
    left.grip(CLOSED)
    yield from arms.until_firm()
    yield from arms.wait(style.pause)
    right.grip(OPEN)
    yield from arms.until_still()
    back = right.pose
    right.move(Pose(back.position - RETREAT * back.rotation[:, 0], back.rotation), style.speed)
    yield from arms.until_still()
    if not in_hand(arms, left):
        make_ready(arms, style)
