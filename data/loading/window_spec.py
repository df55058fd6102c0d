"""Which frames make one training example; without the libraries that read them.

A policy's window is known wherever the policy is used, also on a robot's computer, which has no
store of episodes.
"""

from dataclasses import dataclass

import numpy as np

from dipole.data.core.errors import ConfigError


@dataclass(frozen=True)
class WindowSpec:
    """Which frames make one training example: To observations, H actions, Ta of them executed."""

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 8

    def __post_init__(self) -> None:
        for name in ("n_obs_steps", "horizon", "n_action_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}: it must be a whole number above 0")
        last = self.n_obs_steps - 1 + self.n_action_steps
        if last > self.horizon:
            raise ConfigError(
                f"n_obs_steps - 1 + n_action_steps is {last}, past the horizon of {self.horizon}: "
                "shorten n_action_steps or lengthen the horizon"
            )

    @property
    def shortest_episode(self) -> int:
        """Frames that an episode needs to have one window."""
        return max(1, self.horizon - self.n_obs_steps - self.n_action_steps + 2)

    def count(self, length: int | np.ndarray) -> np.ndarray:
        """Windows of episodes of L frames: L - H + (To - 1) + (Ta - 1) + 1, never below 0."""
        windows = np.asarray(length, np.int64) - self.horizon + self.n_obs_steps
        return np.maximum(windows + self.n_action_steps - 1, 0)
