"""Fetch's experts where actions are places: they move as ever, and say where each move leads."""

from collections.abc import Mapping

import numpy as np

from dipole.envs.fetch.expert.motion import Action, FetchExpert, Floats
from dipole.envs.fetch.geometry import METRES_PER_ACTION


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
