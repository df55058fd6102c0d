"""An environment stepped as a task says, and looked at only when somebody asks."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.interface import Interface
from dipole.envs.wrapped import advancing

MOST_STEPS = 20_000  # of an episode that nothing ends

Environment = gymnasium.Env[Any, Any]
EnvironmentFactory = Callable[[], Environment]


class Stepping:
    """The reset options, action bounds and time limit of a task, around its environment."""

    def __init__(self, environment: Environment, interface: Interface) -> None:
        self.environment, self.interface = environment, interface
        self.space = getattr(environment, "action_space", None)
        self.steps = 0  # of the episode so far
        self._advancing, wrapped_limit = advancing(environment)
        limits = [interface.max_steps, wrapped_limit if self._advancing else None]
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        self._seen: Any = None

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: what is seen first, and info."""
        self.steps = 0
        options = {"options": dict(self.interface.reset)} if self.interface.reset else {}
        self._seen, info = self.environment.reset(seed=seed, **options)
        return self._seen, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step of an action [A]: reward, terminated, truncated, info.

        Raises ValueError for a reward that is not finite, ConfigError for an episode without end.
        """
        action = self.interface.action(action, self.space)
        if self._advancing is not None:
            reward, terminated, truncated, info = self._advancing.advance(action)
        else:
            self._seen, raw, terminated, truncated, info = self.environment.step(action)
            reward = float(raw)
        self.steps += 1
        if not math.isfinite(reward):
            raise ValueError(f"the environment's reward is {reward}")
        over = self._limit is not None and self.steps >= self._limit
        terminated, truncated = bool(terminated), bool(truncated or over)
        unlimited = self.interface.max_steps is None
        if unlimited and not (terminated or truncated) and self.steps >= MOST_STEPS:
            raise ConfigError(
                f"the episode has gone on for {MOST_STEPS} steps: the environment has no time "
                "limit, so set environment.max_steps"
            )
        return float(reward), terminated, truncated, info

    def observe(self) -> Any:
        """The observation of the present state."""
        return self._seen if self._advancing is None else self._advancing.observe()
