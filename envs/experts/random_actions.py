"""Random actions, for recordings that need no task done: pictures with the numbers they show."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import Observation
from dipole.envs.experts import ANYWHERE, EXPERTS, Expert
from dipole.envs.wrapped import offered

SEED = 23  # beside an episode's seed
LONGEST = 16  # steps from one drawn action to the next


class RandomActions:
    """Goes linearly from one action to the next, each drawn uniformly within the bounds.

    environment: Any whose action space is a bounded box. Where it has `hold_action()`, the action
        that keeps it where it is, an episode begins there.

    Each drawn action is reached after 1 to 16 steps, so that commands of positions do not jump at
    every step and those of velocities do not cancel out. A function of the seed. Raises ConfigError
    for other action spaces.
    """

    def __init__(self, environment: "gymnasium.Env[Any, Any]") -> None:
        space = environment.action_space
        if not isinstance(space, spaces.Box) or not space.is_bounded():
            raise ConfigError(
                f"expert 'random' draws actions between bounds, and this environment's are {space}"
            )
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._environment = environment

    def reset(self, seed: int) -> None:
        """Called after the environment's reset with the same seed."""
        self._rng = np.random.default_rng([seed, SEED])
        hold = offered(self._environment, "hold_action")
        begin = self._drawn() if hold is None else np.asarray(hold(), np.float64)
        self._from = self._to = begin
        self._step = self._steps = 0

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action, of the shape of the action space; nothing is looked at."""
        if self._step == self._steps:
            self._from, self._to = self._to, self._drawn()
            self._step, self._steps = 0, int(self._rng.integers(1, LONGEST + 1))
        self._step += 1
        share = self._step / self._steps
        action = (1 - share) * self._from + share * self._to
        return np.clip(action, self._low, self._high).astype(np.float32)

    def _drawn(self) -> NDArray[np.float64]:
        return self._rng.uniform(self._low, self._high)


EXPERTS.add("random")(Expert(RandomActions, ANYWHERE, (), keep="all"))
