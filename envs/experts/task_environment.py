"""An environment as a task describes it, for whoever acts in it step by step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface
from dipole.envs.media.video import PackedFrame, film_frame
from dipole.envs.rollout import MOST_STEPS
from dipole.envs.wrapped import Environment, advancing


@dataclass
class Film:
    """A frame of the start and one after each step, and the reward of each step."""

    frames: list[PackedFrame] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


class TaskEnvironment:
    """The reset options, time limit, action bounds and success of a task, around its environment.

    Where the environment can step without looking, nobody looks at the last state of an episode.
    `info["is_success"]` is success as the task defines it, and absent where it is unknown.
    """

    def __init__(self, environment: Environment, spec: EnvSpec) -> None:
        self.environment, self.spec = environment, spec
        self._interface = Interface(
            success=spec.success,
            max_steps=spec.max_steps,
            reset=spec.reset,
            clip=spec.gymnasium_id is not None,
        )
        self._space = getattr(environment, "action_space", None)
        self._advancing, wrapped_limit = advancing(environment)
        limits = [spec.max_steps, wrapped_limit if self._advancing else None]
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        self._steps = 0
        self._film: Film | None = None

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Lowest and highest action [A]; -inf and inf where the environment does not say it."""
        low, high = (getattr(self._space, name, None) for name in ("low", "high"))
        if low is None or high is None:
            return -np.inf, np.inf
        return np.ravel(low), np.ravel(high)

    @contextmanager
    def filming(self) -> Iterator[Film]:
        """While it lasts, every step is drawn."""
        self._film = Film()
        try:
            yield self._film
        finally:
            self._film = None

    def _look(self, *rewards: float) -> None:
        if self._film is not None:
            self._film.frames.append(film_frame(self.environment.render()))
            self._film.rewards += rewards

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: what is seen first, and info."""
        self._steps = 0
        options = {"options": dict(self.spec.reset)} if self.spec.reset else {}
        observation, info = self.environment.reset(seed=seed, **options)
        self._look()
        return observation, info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; the observation is None where the episode is over."""
        action = self._interface.action(action, self._space)
        if self._advancing is not None:
            reward, terminated, truncated, info = self._advancing.advance(action)
            observation = None
        else:
            observation, raw, terminated, truncated, info = self.environment.step(action)
            reward = float(raw)
        self._steps += 1
        self._look(float(reward))
        truncated = bool(truncated) or (self._limit is not None and self._steps >= self._limit)
        over = bool(terminated) or truncated
        if not over and self._steps >= MOST_STEPS and self.spec.max_steps is None:
            raise ConfigError(
                f"the episode has gone on for {MOST_STEPS} steps: the environment has no time "
                "limit, so set environment.max_steps"
            )
        if self._advancing is not None and not over:
            observation = self._advancing.observe()
        success = self._interface.succeeded(info)
        known = {k: v for k, v in info.items() if k != "is_success"}
        said = known if success is None else {**known, "is_success": success}
        return observation, float(reward), bool(terminated), truncated, said
