"""Experts of Fetch's tasks: state machines that look at every observation, so that they correct.

Which phase a task is in is read off the observation as far as it can be, not off a clock: what was
pushed away is approached again.
"""

from collections.abc import Mapping

import numpy as np

from dipole.envs.fetch.expert.motion import Action, FetchExpert, Floats, Foresee
from dipole.envs.fetch.expert.pick_and_place import PickAndPlaceExpert
from dipole.envs.fetch.expert.push import PushExpert
from dipole.envs.fetch.expert.reach import ReachExpert
from dipole.envs.fetch.expert.slide import SlideExpert
from dipole.envs.fetch.geometry import METRES_PER_ACTION

OF_TASKS: dict[str, type[FetchExpert]] = {
    "reach": ReachExpert,
    "push": PushExpert,
    "pick-and-place": PickAndPlaceExpert,
    "slide": SlideExpert,
}


def expert_of(task: str, foresee: Foresee) -> FetchExpert:
    """The expert of a task of Fetch, in an environment that foresees what actions lead to."""
    return OF_TASKS[task](foresee)


class AbsoluteExpert:
    """An expert whose moves are told as the places where they lead to: one action [4] a step."""

    def __init__(self, moving: FetchExpert) -> None:
        self._moving = moving

    def reset(self, seed: int) -> None:
        """Begin an episode, in the manner of its seed."""
        self._moving.reset(seed)

    def act(self, observation: Mapping[str, Floats]) -> Action:
        """Where the gripper goes, metres, and the fingers' command."""
        move = self._moving.act(observation)
        gripper = np.asarray(observation["state"], np.float64)[:3]
        return np.append(gripper + METRES_PER_ACTION * move[:3], move[3]).astype(np.float32)
