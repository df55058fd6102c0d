"""A simulator of gymnasium-robotics, of which only what is looked at is computed and drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.envs.media.mujoco_views import MujocoViews

Observation = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


class Simulation(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Entries by name, `step` as `advance` and `observe`, pictures by cameras.

    A family's own class has `advance` and `reset`, and says what its numbers are by `_numbers`.

    family: Its name, for errors. simulator: The stock environment, with `model`, `data` and `dt`.
    numbers: {entry: size} of vectors.
    cameras: {entry: camera}, its name in the model or a mujoco.MjvCamera; each has a second entry
        of its depth. `render` looks from the first.
    observation: The entries that are looked at.
    image_size, render_size: Width and height of entries that are pictures, and of `render`'s.

    Raises ConfigError for an entry that there is not, and for sizes below one pixel.
    """

    render_mode = "rgb_array"

    def __init__(
        self,
        family: str,
        simulator: Any,
        numbers: Mapping[str, int],
        cameras: Mapping[str, Any],
        observation: Sequence[str],
        image_size: int,
        render_size: int,
    ) -> None:
        self.simulator, self.observation = simulator, tuple(observation)
        self._family, self._numbers_of, self._camera = family, dict(numbers), next(iter(cameras))
        self._views = MujocoViews(simulator.model, cameras, image_size, render_size)
        self._check_entries((*numbers, *self._views.names))
        looks: dict[str, spaces.Space[Any]] = {name: self._space(name) for name in self.observation}
        self.observation_space = spaces.Dict(looks)  # type: ignore[assignment]
        low, high = simulator.action_space.low, simulator.action_space.high
        self.action_space = spaces.Box(
            low.astype(np.float32), high.astype(np.float32), dtype=np.float32
        )

    @property
    def data(self) -> Any:
        """MuJoCo's, whose warnings say that the state is not finite."""
        return self.simulator.data

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """`advance`, and then `observe`."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step` without looking: (reward, terminated, truncated, info).

        Raises ValueError for an action that is not finite numbers, as many as there have to be.
        """
        raise NotImplementedError

    def observe(self) -> Observation:
        """What was asked for, of the present state."""
        asked = any(name in self._numbers_of for name in self.observation)
        numbers = self._numbers() if asked else {}
        data = self.simulator.data
        return {
            name: np.array(numbers[name]) if name in numbers else self._views.look(data, name)
            for name in self.observation
        }

    def render(self) -> NDArray[np.uint8]:
        """The scene [render_size, render_size, 3]."""
        return self._views.picture(self.simulator.data, self._camera)

    def close(self) -> None:
        """Give the renderers back."""
        self._views.close()
        self.simulator.close()

    def _numbers(self) -> Observation:
        """All vectors of the present state, by their entries' names."""
        raise NotImplementedError

    def _command(self, action: Any) -> NDArray[np.float32]:
        """An action within its bounds. Raises ValueError for what is none."""
        command = np.array(action, np.float32)
        space = self.action_space
        assert isinstance(space, spaces.Box)
        if command.shape != space.shape or not np.isfinite(command).all():
            raise ValueError(
                f"an action of {self._family} is {space.shape[0]} finite numbers; got {action!r}"
            )
        inside: NDArray[np.float32] = np.clip(command, space.low, space.high)
        return inside

    def _check_entries(self, known: Sequence[str]) -> None:
        for name in self.observation:
            if name not in known:
                raise ConfigError(
                    f"{self._family} has no observation {name!r}{nearest(name, known) or '.'} "
                    f"Known: {', '.join(known)}"
                )
        if not self.observation:
            raise ConfigError(f"observation is empty: choose from {', '.join(known)}")

    def _space(self, name: str) -> spaces.Box:
        if name in self._numbers_of:
            return spaces.Box(-np.inf, np.inf, (self._numbers_of[name],), np.float64)
        return self._views.space(name)


def check_steps(family: str, max_steps: int) -> None:
    """Raise ConfigError for an episode without a step."""
    if max_steps < 1:
        raise ConfigError(f"{family}'s max_steps is {max_steps}: at least 1")


def no_options(family: str, options: Mapping[str, Any] | None) -> None:
    """Raise ConfigError for options of a reset that has none."""
    if options:
        raise ConfigError(f"{family} has no reset options, got {', '.join(map(repr, options))}")
