"""Depth as a network sees it: within a range, with a value wherever the camera saw none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError


@dataclass(frozen=True)
class DepthRange:
    """Distances from `near` to `far`, in the unit that is stored.

    What is nearer counts as near and what is further as far. A pixel without a measurement - 0 or
    less, NaN, infinite - is far too: most cameras see nothing where nothing is near enough.
    is_log: The network sees logarithms, so that what is near is resolved more finely.
    """

    near: float
    far: float
    is_log: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.near < self.far < np.inf or (self.is_log and not self.near):
            least = "above 0" if self.is_log else "0 or more"
            raise ConfigError(
                f"range [{self.near}, {self.far}] of depth: near, {least}, and far, which is more"
            )

    @classmethod
    def of(cls, values: Any, is_log: bool) -> "DepthRange":
        """From [near, far]."""
        sound = isinstance(values, Sequence) and len(values) == 2
        if not sound or not all(type(each) in (int, float) for each in values):
            raise ConfigError(f"range {values!r} of depth: [near, far] is needed")
        return cls(float(values[0]), float(values[1]), is_log)

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and largest number that the network sees."""
        ends = np.array([self.near, self.far])
        low, high = np.log(ends) if self.is_log else ends
        return float(low), float(high)

    def apply(self, depth: NDArray[Any]) -> NDArray[np.float32]:
        """Any stored depth [...] -> what the network sees, finite."""
        values = np.asarray(depth, np.float32)
        measured = (values > 0) & (values < np.inf)  # False for NaN
        seen = np.clip(np.where(measured, values, self.far), self.near, self.far)
        return np.asarray(np.log(seen) if self.is_log else seen, np.float32)

    def invert(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """What the network sees, as stored."""
        return np.asarray(np.exp(values) if self.is_log else values, np.float32)
