"""An expert for robosuite's tasks of picking up and putting down, from the entry `state` alone.

It runs in this interpreter, wherever the simulator is: it reads numbers and answers with actions.

    above -> down -> shut -> up [-> over -> lower -> open -> away]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.transforms import rotation

Floats = NDArray[np.float64]
ENTROPY = 16  # tells this expert's random numbers from others' of the same seed
OPEN, SHUT = -1.0, 1.0
STEP, TURN = 0.05, 0.5  # of an action of 1 in "delta": metres, rad
GAIN = 2.0  # by which the distance to a target is commanded: the arm follows slowly
NEAR, LEVEL, ALIGNED = 0.008, 0.006, 0.1  # metres, metres, rad
UP = np.array([0.0, 0.0, 1.0])
# From what `eef_quat` tells of, the hand, to what its controller turns: x, y, z, w.
CONTROLLED = (0.0, 0.0, -np.sqrt(0.5), np.sqrt(0.5))


@dataclass(frozen=True)
class Errand:
    """What is picked up, and where it goes.

    position, rotation: Where the object's position [3] and quaternion [4] begin in `state`.
    grasp: Metres from the object's middle to where it is held. symmetry: rad after which it looks
    the same to a gripper; 0: from every side. place: Where it is put, [3]; None: nowhere.
    onto: Where the position of what it is put on begins; above: metres over that.
    raised: By how much it is lifted, metres, drawn from the seed between the two.
    """

    position: int
    rotation: int
    grasp: float = 0.0
    symmetry: float = np.pi / 2
    place: tuple[float, float, float] | None = None
    onto: int | None = None
    above: float = 0.0
    raised: tuple[float, float] = (0.18, 0.24)


ERRANDS = {
    "lift": Errand(9, 12),
    "stack": Errand(9, 12, onto=16, above=0.05),
    # The near half of its bin, and no higher than the bins' walls ask: the arm reaches no farther.
    "can": Errand(16, 19, grasp=0.02, symmetry=0.0, place=(0.18, 0.38, 0.9), raised=(0.13, 0.16)),
}


class RobosuiteExpert:
    """Acts on "state": one action [7] per step, as the environment takes them.

    task: One of ERRANDS. actions: "delta" or "absolute", as the environment's option.
    An episode is a function of the environment and the seed, which gives speed, heights and pauses.
    """

    def __init__(self, task: str, actions: str = "delta") -> None:
        if task not in ERRANDS:
            known = ", ".join(f"robosuite/{each}" for each in ERRANDS)
            raise ConfigError(
                f"nobody knows how to act in 'robosuite/{task}': there are experts for {known}"
            )
        self._errand, self._absolute = ERRANDS[task], actions == "absolute"
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        random = np.random.default_rng([seed, ENTROPY])
        self._speed = random.uniform(0.03, 0.05)  # metres that are commanded in a step, at most
        self._height = random.uniform(0.06, 0.12)  # over the object before it is grasped
        self._raise = random.uniform(*self._errand.raised)  # of the object before it is carried
        self._pause = int(random.integers(8, 13))  # steps in which the gripper shuts
        self._offset = random.normal(0.0, 0.003, 2)  # of the grasp, metres
        self._phase, self._left = "above", 0
        self._held = np.zeros(3)

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """The action upon a state."""
        state = np.asarray(observation["state"], np.float64)
        hand, turned = state[:3], _axes(state[3:7])
        target, grip = self._target(state, hand, self._turn(state, turned))
        move = _shortened(GAIN * (target - hand), self._speed)
        turn = np.cross(turned[:, 2], -UP) + self._turn(state, turned) * UP
        turn = _shortened(turn, TURN / 2)
        if not self._absolute:
            return np.array([*(move / STEP), *(turn / TURN), grip], np.float32)
        controlled = rotation.multiply(rotation.unit(list(state[3:7])), CONTROLLED)
        goal = rotation.logarithm(rotation.multiply(rotation.exponential(list(turn)), controlled))
        return np.array([*(hand + move), *goal, grip], np.float32)

    def _turn(self, state: Floats, turned: Floats) -> float:
        """How far the hand has to turn about the vertical for its fingers to meet two faces."""
        symmetry, start = self._errand.symmetry, self._errand.rotation
        if not symmetry or self._phase not in ("above", "down"):
            return 0.0
        across = turned[:, 1]
        face = _axes(state[start : start + 4])[:, 0]
        angle = np.arctan2(face[1], face[0]) - np.arctan2(across[1], across[0])
        return float((angle + symmetry / 2) % symmetry - symmetry / 2)

    def _target(self, state: Floats, hand: Floats, turn: float) -> tuple[Floats, float]:
        """Where the hand goes, and whether it is open; moves on to the next phase."""
        errand = self._errand
        thing = state[errand.position : errand.position + 3]
        grasp = thing + np.array([*self._offset, errand.grasp])
        if self._phase == "above":
            over = grasp + self._height * UP
            if _flat(over - hand) < NEAR and abs(turn) < ALIGNED and hand[2] < over[2] + 0.03:
                self._phase = "down"
            return over, OPEN
        if self._phase == "down":
            if abs(grasp[2] - hand[2]) < LEVEL:
                self._phase, self._left = "shut", self._pause
                self._held = np.array([*hand[:2], grasp[2]])
            return grasp, OPEN
        if self._phase == "shut":
            self._left -= 1
            if self._left <= 0:
                self._phase = "up"
            return self._held, SHUT
        if self._phase == "up":
            return self._lifted(thing, hand)
        return self._placed(state, thing, hand)

    def _lifted(self, thing: Floats, hand: Floats) -> tuple[Floats, float]:
        top = self._held + self._raise * UP
        if hand[2] > self._held[2] + 0.08 and np.linalg.norm(thing - hand) > 0.06:
            self._phase = "above"  # it slipped
        elif hand[2] > top[2] - 0.02 and self._goes_somewhere:
            self._phase = "over"
        return top, SHUT

    def _placed(self, state: Floats, thing: Floats, hand: Floats) -> tuple[Floats, float]:
        """The phases in which it is put down."""
        place = self._place(state) + (hand - thing)  # where the hand is when the thing is there
        if self._phase == "over":
            over = np.array([*place[:2], max(place[2] + 0.03, self._held[2] + self._raise)])
            if _flat(over - hand) < 2 * NEAR:
                self._phase = "lower"
            return over, SHUT
        if self._phase == "lower":
            if abs(place[2] - hand[2]) < LEVEL + 0.002:
                self._phase, self._left, self._held = "open", self._pause, hand
            return place, SHUT
        if self._phase == "open":
            self._left -= 1
            if self._left <= 0:
                self._phase = "away"
            return self._held, OPEN
        return self._held + 0.15 * UP, OPEN

    @property
    def _goes_somewhere(self) -> bool:
        return self._errand.place is not None or self._errand.onto is not None

    def _place(self, state: Floats) -> Floats:
        """Where the thing's middle goes."""
        onto = self._errand.onto
        if onto is None:
            return np.array(self._errand.place)
        return state[onto : onto + 3] + self._errand.above * UP


def _flat(difference: Floats) -> float:
    return float(np.linalg.norm(difference[:2]))


def _shortened(vector: Floats, longest: float) -> Floats:
    shorter: Floats = vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))
    return shorter


def _axes(quaternion: Floats) -> Floats:
    """The matrix of a quaternion x, y, z, w."""
    return np.array(rotation.matrix(rotation.unit(list(quaternion))))
