"""An expert for Fork: half of its demonstrations go left, half right."""

from collections.abc import Mapping

import numpy as np

from dipole.envs.fork.geometry import WIDTHS, Floats, path

ENTROPY = 5  # tells this expert's random numbers from others' of the same seed


class ForkExpert:
    """Acts on "state" [2] and "label" [1]: one target position [2] per step.

    The side is the label's; for "any", left for even seeds and right for odd ones.
    """

    def __init__(self) -> None:
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Begin an episode: the seed gives the width of the arc, and the side where any will do."""
        self._width = float(np.random.default_rng([seed, ENTROPY]).uniform(*WIDTHS))
        self._side = 1.0 if seed % 2 else -1.0
        self._path: Floats | None = None
        self._step = 0

    def act(self, observation: Mapping[str, Floats]) -> Floats:
        """The next position of the path that began at the episode's first observation."""
        if self._path is None:
            side = float(observation["label"][0]) or self._side
            self._path = path(np.asarray(observation["state"], np.float64), side, self._width)
        self._step = min(self._step + 1, len(self._path) - 1)
        target: Floats = self._path[self._step]
        return target
