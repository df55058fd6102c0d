"""Disturbances of an expert, so that its demonstrations show how to get back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError

Bound = float | NDArray[Any]


@dataclass(frozen=True)
class DisturbanceSpec:
    """A slow drift of the executed actions, and now and then a shove for a few steps.

    drift: Standard deviation of what a step adds to the drift, in the action's units.
    memory: Share of the drift that the next step keeps.
    shove: Standard deviation of a shove, in the action's units.
    shove_probability: That one begins, in each step.
    shove_steps: How long it lasts.
    scale: Of drift and shove, a number for each dimension of the action; 0 for those that are
        executed as the expert wants them, such as a gripper's. Empty: 1 for all.
    """

    drift: float = 0.0
    memory: float = 0.6
    shove: float = 0.0
    shove_probability: float = 0.0
    shove_steps: int = 3
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(map(float, self.scale)))
        for name in ("drift", "shove", "shove_steps"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ConfigError(f"disturbance: {name} is {value}: it is at least 0")
        for name in ("memory", "shove_probability"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"disturbance: {name} is {value}: it is between 0 and 1")
        if self.shove_probability and not self.shove:
            raise ConfigError(
                f"shoves with a probability of {self.shove_probability}, and of no size: give "
                "shove=SIZE, in the units of the action"
            )

    @property
    def changes_nothing(self) -> bool:
        """Whether every action is executed as it is wanted."""
        return not self.drift and not self.shove_probability


class Disturbance:
    """Executed actions from intended ones, a function of the seed and the number of calls.

    low, high: bounds of the executed action, a number or one for each dimension.
    """

    def __init__(
        self, seed: int, spec: DisturbanceSpec, low: Bound = -np.inf, high: Bound = np.inf
    ) -> None:
        self.spec, self._low, self._high = spec, low, high
        self._random = np.random.default_rng([seed, 1])
        self._drift: Any = 0.0
        self._shove: Any = 0.0
        self._shoved = 0

    def __call__(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action [A] to execute. Raises ConfigError where the scale has another size."""
        spec, random, size = self.spec, self._random, len(action)
        if spec.scale and len(spec.scale) != size:
            raise ConfigError(
                f"disturbance: scale has {len(spec.scale)} numbers, and the action {size}"
            )
        scale = np.array(spec.scale or (1.0,) * size)
        self._drift = spec.memory * self._drift + random.normal(0.0, spec.drift, size)
        starts = random.random() < spec.shove_probability
        shove = random.normal(0.0, spec.shove, size)
        if starts:
            self._shove, self._shoved = shove, spec.shove_steps
        offset = (self._drift + (self._shove if self._shoved > 0 else 0.0)) * scale
        self._shoved -= 1
        moved = np.clip(action + offset, self._low, self._high)
        return np.where(scale == 0, action, moved).astype(np.float32)
