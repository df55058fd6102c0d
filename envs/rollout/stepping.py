"""An environment stepped as a task says, and looked at only when somebody asks."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.errors import DivergedError
from dipole.envs.interface import Interface
from dipole.envs.interpreter.standalone.divergence import forget, is_divergence, is_finite, watched
from dipole.envs.wrapped import advancing

MOST_STEPS = 20_000  # of an episode that nothing ends

Environment = gymnasium.Env[Any, Any]
EnvironmentFactory = Callable[[], Environment]


class Stepping:
    """The reset options, action bounds and time limit of a task, around its environment.

    Raises DivergedError where the simulator says that its state is not finite any more.
    """

    def __init__(self, environment: Environment, interface: Interface) -> None:
        self.environment, self.interface = environment, interface
        self.space = getattr(environment, "action_space", None)
        self.steps = 0  # of the episode so far
        self._advancing, wrapped_limit = advancing(environment)
        limits = [interface.max_steps, wrapped_limit if self._advancing else None]
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        self._seen: Any = None
        self._diverged: Callable[[], bool] = lambda: False

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: what is seen first, and info."""
        self.steps = 0
        options = {"options": dict(self.interface.reset)} if self.interface.reset else {}
        forget(self.environment)
        with _divergence_told():
            self._seen, info = self.environment.reset(seed=seed, **options)
            self._diverged = watched(self.environment)  # a reset may have made the simulator anew
            self._check_state()
        return self._seen, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step of an action [A]: reward, terminated, truncated, info.

        Raises ValueError for a reward that is not finite where what is observed is, ConfigError for
        an episode without end.
        """
        action = self.interface.action(action, self.space)
        with _divergence_told():
            if self._advancing is not None:
                reward, terminated, truncated, info = self._advancing.advance(action)
            else:
                self._seen, raw, terminated, truncated, info = self.environment.step(action)
                reward = float(raw)
            self.steps += 1
            self._check_state()
        if not math.isfinite(reward):
            self._refuse(reward)
        if not terminated:  # where it is, that may be what the environment has ended it for
            self._check_seen()
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
        if self._advancing is None:
            return self._seen
        with _divergence_told():
            return self._advancing.observe()

    def _check_state(self) -> None:
        if self._diverged():
            raise DivergedError("the simulator says that its state is not finite")

    def _check_seen(self) -> None:
        """An observation that comes with each step says it in any step, whoever looks at it."""
        if self._advancing is None:
            finite = is_finite(self._seen)
        else:  # of a simulator in another interpreter
            finite = getattr(self._advancing, "observation_is_finite", True)
        if not finite:
            self.interface.observe(self.observe())  # raises where the policy would see it

    def _refuse(self, reward: float) -> None:
        """A reward that is not finite is the state's, or a mistake of the environment."""
        said = f"the environment's reward is {reward}"
        if is_finite(self.observe()):
            raise ValueError(said)
        raise DivergedError(f"{said}, and what is observed is not finite")


@contextmanager
def _divergence_told() -> Iterator[None]:
    """Around what is done with a simulator: whatever says that it diverged is a DivergedError."""
    try:
        yield
    except DivergedError:
        raise
    except Exception as error:
        if is_divergence(error):
            raise DivergedError(f"{type(error).__name__}: {error}") from error
        raise
