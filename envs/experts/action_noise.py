"""Disturbances of an expert, so that its demonstrations show how to get back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DisturbanceSpec:
    """A slow drift, and now and then a shove for a few steps, in the units of the action."""

    drift: float = 3.0
    memory: float = 0.6  # of the drift, from step to step
    shove: float = 30.0
    shove_probability: float = 0.03  # in each step
    shove_steps: int = 3
    low: float = 0.0
    high: float = 512.0


class Disturbance:
    """Executed actions from intended ones, a function of the seed and the number of calls."""

    def __init__(self, seed: int, spec: DisturbanceSpec | None = None) -> None:
        self.spec = spec or DisturbanceSpec()
        self._random = np.random.default_rng([seed, 1])
        self._drift = np.zeros(2)
        self._shove = np.zeros(2)
        self._shoved = 0

    def __call__(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action [2] to execute."""
        spec, random = self.spec, self._random
        self._drift = spec.memory * self._drift + random.normal(0.0, spec.drift, 2)
        starts, shove = random.random() < spec.shove_probability, random.normal(0.0, spec.shove, 2)
        if starts:
            self._shove, self._shoved = shove, spec.shove_steps
        offset = self._drift + (self._shove if self._shoved > 0 else 0.0)
        self._shoved -= 1
        return np.clip(action + offset, spec.low, spec.high).astype(np.float32)
