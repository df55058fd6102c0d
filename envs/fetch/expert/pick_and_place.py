"""An expert for Fetch's picking and placing: above the block, down, close, carry, hold."""

import numpy as np

from dipole.envs.fetch.expert.approach import CLEARED
from dipole.envs.fetch.expert.motion import (
    CLOSE,
    OPEN,
    Action,
    FetchExpert,
    Floats,
    Scene,
    action,
)
from dipole.envs.fetch.geometry import METRES_PER_ACTION

GRASP = 0.012  # from the block's centre, at which the fingers may close, metres
HELD = 0.027  # half of the space between fingers that hold the block, at most
LOST = 0.03  # from the block's centre, at which it is held no more
ABOVE = 0.02  # sideways, within which the gripper may come down
SPARE = 0.005  # of the fingers' opening, beyond the block, before the gripper comes down
CLOSING = 3  # steps that the fingers take


class PickAndPlaceExpert(FetchExpert):
    """Phases: above, down, closing, carry; from each back to the first where the block is lost."""

    def reset(self, seed: int) -> None:
        """Begin an episode; the seed gives how high a block is carried over the table, too."""
        super().reset(seed)
        self._lift = self.random.uniform(0.03, 0.08)
        self._closing = 0

    def decide(self, scene: Scene) -> Action:
        """The action of the phase that the scene is in."""
        offset = scene.object - scene.gripper
        away = float(np.linalg.norm(offset))
        if away > LOST:
            self._closing = 0
        if self._closing or (away < GRASP and scene.fingers > HELD):
            self._closing += 1
            if self._closing > CLOSING:
                return self._carry(scene)
            return action(offset / METRES_PER_ACTION, CLOSE)
        return action(self.towards(scene, self._approach(scene, offset)), OPEN)

    def _approach(self, scene: Scene, offset: Floats) -> Floats:
        """Where the gripper goes next: up, above the block, or down to it; [3], metres."""
        sideways = float(np.linalg.norm(offset[:2]))
        target = scene.object.copy()
        if sideways > ABOVE or scene.fingers < HELD + SPARE:
            target[2] += self.manner.height
            if scene.gripper[2] < scene.object[2] + CLEARED and sideways > ABOVE:
                target[:2] = scene.gripper[:2]
        return target

    def _carry(self, scene: Scene) -> Action:
        """The block, which is where it is in the fingers, to the goal; over the table, above it."""
        way = scene.goal - scene.object
        sideways = float(np.linalg.norm(way[:2]))
        target = scene.gripper + way
        target[2] += min(self._lift, 0.5 * sideways)
        return action(self.towards(scene, target), CLOSE)
