"""Two arms that follow poses of their pinches, as an action a step: what the scripts write with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.envs.aloha.expert.kinematics import Kinematics
from dipole.envs.aloha.expert.pose import Pose, rotation_vector
from dipole.envs.aloha.joints import Floats
from dipole.envs.aloha.simulation import STEP

FASTEST = 2.5 * STEP  # radians a step; a ViperX makes 3.1 rad/s
GRIPPER_SPEED = 4.0  # of its way, a second
TURN_SPEED = 1.2  # rad/s, mean of a movement
SHORTEST = 0.1  # seconds of a movement
FIRM = 0.3  # seconds until a gripper that was told to close holds with all of its force

Script = Iterator[None]  # one turn a step
Observation = Mapping[str, NDArray[Any]]


@dataclass
class Movement:
    """A straight way of a pinch, with minimum jerk (Flash and Hogan, 1985)."""

    start: Pose
    goal: Pose
    steps: int
    step: int = 0

    def advance(self) -> Pose:
        """Where it is after one more step."""
        self.step = min(self.step + 1, self.steps)
        s = self.step / self.steps
        return self.start.towards(self.goal, s**3 * (10 - 15 * s + 6 * s * s))

    @property
    def over(self) -> bool:
        return self.step >= self.steps


class Arm:
    """Targets of one arm, moved towards where its pinch and its gripper are to be.

    side: "left" or "right". state: Where it is, [7]: joints and gripper.
    """

    def __init__(self, side: str, kinematics: Kinematics, state: Floats) -> None:
        self.side, self._kinematics = side, kinematics
        self.joints = np.array(state[:6], dtype=np.float64)  # where they should be
        self.gripper = self._grip = float(state[6])
        self._movement: Movement | None = None

    @property
    def pose(self) -> Pose:
        """Of the pinch, where it should be."""
        return self._kinematics.pose(self.side, self.joints)

    def measured(self, state: Floats) -> Pose:
        """Of the pinch at a state [7]."""
        return self._kinematics.pose(self.side, state[:6])

    def move(self, goal: Pose, speed: float) -> None:
        """Begin a movement. speed: its mean, m/s; less where it turns much."""
        start = self.pose
        way = float(np.linalg.norm(goal.position - start.position))
        turn = float(np.linalg.norm(rotation_vector(goal.rotation @ start.rotation.T)))
        seconds = max(way / speed, turn / TURN_SPEED, SHORTEST)
        self._movement = Movement(start, goal, round(seconds / STEP))

    def grip(self, gripper: float) -> None:
        """Begin to open (1) or close (0)."""
        self._grip = gripper

    def advance(self) -> None:
        """One step of what was begun."""
        change = GRIPPER_SPEED * STEP
        self.gripper += float(np.clip(self._grip - self.gripper, -change, change))
        if self._movement is not None:
            pose = self._movement.advance()
            wanted = self._kinematics.solve(self.side, pose, self.joints, iterations=4)
            self.joints += np.clip(wanted - self.joints, -FASTEST, FASTEST)

    @property
    def still(self) -> bool:
        """Whether what was begun is done."""
        return (self._movement is None or self._movement.over) and self.gripper == self._grip

    @property
    def action(self) -> Floats:
        """Target joints and gripper [7]: gravity's pull on the controllers is made up for."""
        joints = self.joints + self._kinematics.sag(self.side, self.joints)
        action: Floats = np.append(joints, self.gripper)
        return action


class TwoArms:
    """Both arms and what was last observed: the words of a script.

    kinematics: Of the model that they are of.
    """

    def __init__(self, kinematics: Kinematics, observation: Observation) -> None:
        self._observation = observation
        states = self._states
        self.left = Arm("left", kinematics, states["left"])
        self.right = Arm("right", kinematics, states["right"])

    def look(self, observation: Observation) -> None:
        self._observation = observation

    def object(self, number: int) -> Pose:
        """Where an object is."""
        poses = np.asarray(self._observation["environment_state"], np.float64)
        return Pose.read(poses[7 * number : 7 * number + 7])

    def in_hand(self, arm: Arm, number: int) -> Pose:
        """An object in the frame of an arm's pinch, as measured."""
        return arm.measured(self._states[arm.side]).inverse @ self.object(number)

    def until_still(self) -> Script:
        """Until both arms have done what they began."""
        while not (self.left.still and self.right.still):
            yield from self.wait(STEP)

    def until_firm(self) -> Script:
        """Until a gripper that closes holds what is in it: it lags behind its target."""
        yield from self.until_still()
        yield from self.wait(FIRM)

    def wait(self, seconds: float) -> Script:
        """Go on with what was begun for a while."""
        for _ in range(round(seconds / STEP)):
            self.left.advance()
            self.right.advance()
            yield

    @property
    def action(self) -> Floats:
        """Of both arms, [14]."""
        action: Floats = np.concatenate([self.left.action, self.right.action])
        return action

    @property
    def _states(self) -> dict[str, Floats]:
        state = np.asarray(self._observation["state"], np.float64)
        return {"left": state[:7], "right": state[7:]}
