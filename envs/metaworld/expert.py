"""MetaWorld's scripted policies as an expert, each episode at a speed of its own."""

import warnings
from typing import Any

import gymnasium
import numpy as np
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from dipole.data.recording.record import Observation
from dipole.envs.metaworld.environment import MetaWorld
from dipole.envs.metaworld.tasks import VERSION

SEED = 14  # beside an episode's seed
SLOWEST = 0.8  # of a scripted policy's largest speed
# Tasks whose scripts bring the wrist to the goal: the fingers are then as far from it as counts as
# success, and whoever learns from that stops beside it as often as not.
REACHING = frozenset({"reach", "reach-wall"})
FULL_SPEED = frozenset({"basketball"})  # it throws: slower ones miss


class MetaWorldExpert:
    """The scripted policy of the episode's task (Yu et al., 2019), clipped to the action box.

    environment: A `MetaWorld`, or wrappers around one: it says which task an episode does.

    What varies from seed to seed is the hand's largest speed, 0.8 to 1 centimetre a step. These
    policies are functions of the state, so that they find back from wherever a disturbance leads.
    """

    def __init__(self, environment: "gymnasium.Env[Any, Any]") -> None:
        unwrapped = environment.unwrapped
        assert isinstance(unwrapped, MetaWorld)
        self._environment = unwrapped
        self._policies = {name: ENV_POLICY_MAP[name + VERSION]() for name in unwrapped.tasks}
        self._speed = 1.0

    def reset(self, seed: int) -> None:
        """Called after the environment's reset with the same seed."""
        speed = np.random.default_rng([seed, SEED]).uniform(SLOWEST, 1.0)
        self._speed = 1.0 if self._environment.simulator.name in FULL_SPEED else speed

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """observation: "state" [39]. Returns the action [4]."""
        name = self._environment.simulator.name
        state = np.array(observation["state"], np.float64)
        if name in REACHING:
            state[-3:] += self._fingers_to_wrist()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of actions beyond the box
            scripted = self._policies[name].get_action(state)
        bounds = np.array([self._speed] * 3 + [1.0], np.float32)
        return np.clip(np.asarray(scripted, np.float32), -bounds, bounds)

    def _fingers_to_wrist(self) -> NDArray[np.float64]:
        sawyer = self._environment.simulator.sawyer
        offset: NDArray[np.float64] = sawyer.get_endeff_pos() - sawyer.tcp_center
        return offset
