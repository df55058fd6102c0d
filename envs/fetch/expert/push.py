"""An expert for Fetch's pushing: behind the block, down, and along the line to the goal."""

import numpy as np

from dipole.envs.fetch.expert.approach import next_place
from dipole.envs.fetch.expert.motion import (
    LEAVE,
    Action,
    FetchExpert,
    Floats,
    Scene,
    action,
    limited,
)
from dipole.envs.fetch.geometry import METRES_PER_ACTION

LOW = 0.424  # height of the gripper that pushes, just above the table, metres
CONTACT = 0.045  # between the centres of gripper and block where they touch, at least
PRESSED = 0.002  # by which the gripper aims past the block's side, metres
BACK = 0.6  # share of the way back to the line, in a step
ROOM = 0.025  # beyond that, where the gripper comes down
ASIDE = 0.022  # from the line to the goal, at which pushing begins anew
CLEAR = 0.075  # between gripper and block when the block is done, metres
DONE, AGAIN = 0.010, 0.025  # from the goal: it is left alone, and it is pushed once more


class PushExpert(FetchExpert):
    """Phases by geometry: leave alone, push, come down, travel above or beside the block."""

    def reset(self, seed: int) -> None:
        """Begin an episode; the seed gives how far behind the block it comes down, too."""
        super().reset(seed)
        self._room = ROOM + self.random.uniform(0.0, 0.015)
        self._pace = self.random.uniform(0.65, 0.95)  # of the push, as a share of the speed
        self._resting = self._pushing = False

    def decide(self, scene: Scene) -> Action:
        """The action of the phase that the scene is in."""
        way = (scene.goal - scene.object)[:2]
        left = float(np.linalg.norm(way))
        self._resting = left < (AGAIN if self._resting else DONE)
        if self._resting:
            self._pushing = False
            return action(self._retreat(scene), LEAVE)
        ahead = way / left
        offset = (scene.gripper - scene.object)[:2]
        along = float(offset @ ahead)
        aside = offset - along * ahead
        self._pushing = self._may_push(scene, along, float(np.linalg.norm(aside)))
        if self._pushing:
            return action(self._push(scene, ahead, aside, left), LEAVE)
        return action(self._travel(scene, ahead), LEAVE)

    def _may_push(self, scene: Scene, along: float, aside: float) -> bool:
        """Whether the gripper is down, behind the block, and near enough to the line."""
        margin = ASIDE if self._pushing else ASIDE / 2
        behind = -(CONTACT + self._room + 0.03) < along < -0.02
        return bool(scene.gripper[2] < LOW + 0.012) and behind and aside < margin

    def _push(self, scene: Scene, ahead: Floats, aside: Floats, left: float) -> Floats:
        """Forwards, back to the line, and slower towards the goal."""
        gap = float(-(scene.gripper - scene.object)[:2] @ ahead) - CONTACT
        forwards = ahead * (self.manner.gain * left + max(gap, 0.0) + PRESSED)
        motion = np.append(forwards, LOW - scene.gripper[2])
        motion = limited(motion, self.manner.speed * self._pace)
        motion[:2] -= BACK * aside / METRES_PER_ACTION
        return motion

    def _retreat(self, scene: Scene) -> Floats:
        """Away from the block that is at the goal, so that it is not pushed on."""
        offset = (scene.gripper - scene.object)[:2]
        near = float(np.linalg.norm(offset))
        if near > CLEAR or near == 0.0:
            return np.zeros(3)
        place = scene.object[:2] + offset / near * CLEAR
        return self.towards(scene, np.append(place, scene.gripper[2]), speed=0.5)

    def _travel(self, scene: Scene, ahead: Floats) -> Floats:
        """To the place behind the block."""
        place = scene.object[:2] - ahead * (CONTACT + self._room)
        return self.towards(scene, next_place(scene, place, LOW, self.manner.height))
