"""A peg, in the right hand, into a socket, in the left one."""

import numpy as np

from dipole.envs.aloha.expert.arms import Arm, Script, TwoArms
from dipole.envs.aloha.expert.grasps import HALF, from_above
from dipole.envs.aloha.expert.pose import Pose
from dipole.envs.aloha.expert.style import Style
from dipole.envs.aloha.joints import Floats

PEG, SOCKET = 0, 1
APART = 0.17  # metres between the middles of peg and socket when they are aligned
INSIDE = 0.096  # and when the peg touches the pin: 0.04 of the pin and 0.06 of the peg, pressed
TOLERANCE = 0.01  # metres of the same
HELD = 0.05  # metres from the hand at which an object is still in it
ALOFT = 0.04  # metres above the table of an object that does not lie there
SLOW = 0.6  # share of the speed, near objects
CORRECTIONS = 2  # of the alignment
OPEN, CLOSED = 1.0, 0.0


def insertion(arms: TwoArms, style: Style) -> Script:
    """Grasp both, lift, align in the air, push the peg in; again, where one was lost."""
    while not inserted(arms):
        yield from hold(arms, style)
        yield from align(arms, style)
        place(arms, PEG, arms.right, before(arms.object(SOCKET), INSIDE), style.speed * SLOW)
        yield from arms.until_still()


def inserted(arms: TwoArms) -> bool:
    """Whether the peg is in the socket as far as it goes."""
    peg = arms.object(SOCKET).inverse @ arms.object(PEG)
    return bool(np.linalg.norm(peg.position) < INSIDE + TOLERANCE)


def hold(arms: TwoArms, style: Style) -> Script:
    """Each hand holds its object above the table, or grasps it until it does."""
    hands = {PEG: arms.right, SOCKET: arms.left}
    while missing := [number for number in hands if not held(arms, hands[number], number)]:
        yield from grasp(arms, style, {number: hands[number] for number in missing})


def align(arms: TwoArms, style: Style) -> Script:
    """The peg lies on the socket's axis, apart from it, by where both are in the hands."""
    place(arms, SOCKET, arms.left, aligned(style.meeting, -APART / 2), style.speed)
    place(arms, PEG, arms.right, aligned(style.meeting, APART / 2), style.speed)
    yield from arms.until_still()
    for _ in range(CORRECTIONS):
        yield from arms.wait(style.pause)
        goal = before(arms.object(SOCKET), APART)
        place(arms, PEG, arms.right, goal, style.speed * SLOW)
        yield from arms.until_still()


def grasp(arms: TwoArms, style: Style, hands: dict[int, Arm]) -> Script:
    """Hands go to where their objects lie, close and lift."""
    for arm in hands.values():
        arm.grip(OPEN)
    for low, speed in ((False, style.speed), (True, style.speed * SLOW)):
        for number, arm in hands.items():
            pose = from_above(arm.side, arms.object(number), style.pitch, HALF)
            pose = pose.moved(x=style.offset[number])
            arm.move(pose if low else pose.moved(z=style.approach), speed)
        yield from arms.until_still()
    yield from arms.wait(style.pause)
    for arm in hands.values():
        arm.grip(CLOSED)
    yield from arms.until_firm()
    for arm in hands.values():
        arm.move(arm.pose.moved(z=style.approach), style.speed * SLOW)
    yield from arms.until_still()


def held(arms: TwoArms, arm: Arm, number: int) -> bool:
    """Whether an object is in the hand, above the table."""
    near = np.linalg.norm(arms.in_hand(arm, number).position) < HELD
    return bool(near and arms.object(number).position[2] > ALOFT)


def aligned(meeting: Floats, x: float) -> Pose:
    """An object that lies along the table, above it."""
    return Pose(meeting, Pose.identity().rotation).moved(x=x)


def before(socket: Pose, distance: float) -> Pose:
    """A peg on the axis of the socket, at a distance from it."""
    return socket @ Pose.identity().moved(x=distance)


def place(arms: TwoArms, number: int, arm: Arm, goal: Pose, speed: float) -> None:
    """Begin to bring a held object to a pose, by where it is in the hand."""
    arm.move(goal @ arms.in_hand(arm, number).inverse, speed)
