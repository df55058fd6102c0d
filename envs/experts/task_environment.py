"""An environment as a task describes it, for whoever acts in it step by step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dipole.envs.contract import EnvSpec
from dipole.envs.errors import DivergedError, not_even_new
from dipole.envs.experts.watch import limited
from dipole.envs.interface import Interface, check_finite
from dipole.envs.media.video import PackedFrame, film_frame
from dipole.envs.rollout.deadline import start_seconds, step_seconds
from dipole.envs.rollout.stepping import Environment, EnvironmentFactory, Stepping


@dataclass
class Film:
    """A frame of the start and one after each step, and the reward of each step."""

    frames: list[PackedFrame] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


class TaskEnvironment:
    """A task's environment, whose `info["is_success"]` is success as the task defines it.

    make: Makes it: at once, and anew where it cannot be reset to a finite state any more; `remade`
        is called with the new one. finite: {name: entry} of observations that have to be finite.
        Raises DivergedError where they are not, and where the simulator says so itself.
    Where the environment can step without looking, nobody looks at the last state of an episode.
    `info["is_success"]` is absent where success is unknown. `environment.timeout` limits calls in a
    worker process; a simulator in an interpreter of its own has that limit already.
    """

    def __init__(
        self,
        make: EnvironmentFactory,
        spec: EnvSpec,
        finite: Mapping[str, str] | None = None,
        remade: Callable[[Environment], object] = lambda environment: None,
    ) -> None:
        step = step_seconds(spec.timeout)
        self._step_limit = step if spec.python is None else None
        self._start_limit = start_seconds(step) if spec.python is None else None
        with limited(self._start_limit):
            self.environment, self.spec = make(), spec
        self._make, self._finite, self._remade = make, finite or {}, remade
        self._was_reset = False
        self._interface = Interface(
            features=(),  # what an expert sees is the simulator's own, dictionary or array
            success=spec.success,
            max_steps=spec.max_steps,
            reset=spec.reset,
            clip=spec.gymnasium_id is not None,
        )
        self._stepping = Stepping(self.environment, self._interface)
        self._film: Film | None = None

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Lowest and highest action [A]; -inf and inf where the environment does not say it."""
        low, high = (getattr(self._stepping.space, name, None) for name in ("low", "high"))
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
        """Begin an episode: what is seen first, and info. Raises RolloutError where a new
        environment cannot be reset to a finite state either."""
        with limited(self._start_limit):
            try:
                observation, info = self._begun(seed)
            except DivergedError as error:
                observation, info = self._begun_anew(seed, error)
            self._was_reset = True
            self._look()
            return observation, info

    def _begun(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        observation, info = self._stepping.reset(seed)
        check_finite(observation, self._finite)
        return observation, info

    def _begun_anew(self, seed: int | None, error: DivergedError) -> tuple[Any, dict[str, Any]]:
        if self._was_reset:
            self.environment.close()
            self.environment = self._make()
            self._stepping = Stepping(self.environment, self._interface)
            self._remade(self.environment)
            try:
                return self._begun(seed)
            except DivergedError as repeated:
                error = repeated
        raise not_even_new(error) from error

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; the observation is None where the episode is over."""
        with limited(self._step_limit):
            return self._stepped(action)

    def _stepped(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, terminated, truncated, info = self._stepping.advance(action)
        self._look(reward)
        observation = None if terminated or truncated else self._stepping.observe()
        if observation is not None:
            check_finite(observation, self._finite)
        success = self._interface.succeeded(info)
        known = {k: v for k, v in info.items() if k != "is_success"}
        said = known if success is None else {**known, "is_success": success}
        return observation, reward, terminated, truncated, said
