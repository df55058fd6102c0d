"""Numbers one by one: angles as sine and cosine, ranges as -1 to 1, degrees as radians."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import canonical
from dipole.data.transforms.column_transform import COLUMN_TRANSFORMS, Floats, Words


@COLUMN_TRANSFORMS.add("angle_to_sin_cos")
@dataclass(frozen=True)
class AngleToSinCos:
    """Each angle to its sine and cosine, which do not jump where the angle wraps.

    n columns become 2 n: sine, cosine, sine, cosine... The inverse is in (-pi, pi].
    degrees: whether the angles are in degrees.
    """

    degrees: bool = False

    def output_size(self, size: int) -> int:
        return 2 * size

    def apply(self, values: NDArray[Any]) -> Floats:
        angles = np.asarray(values, np.float64) / self._unit
        pairs = np.stack([np.sin(angles), np.cos(angles)], -1)
        return pairs.reshape(*angles.shape[:-1], 2 * angles.shape[-1])

    def invert(self, values: NDArray[Any]) -> Floats:
        numbers = np.asarray(values, np.float64)
        return np.asarray(np.arctan2(numbers[..., ::2], numbers[..., 1::2]) * self._unit)

    def names(self, inputs: Words) -> Words:
        return tuple(f"{name}_{part}" for name in inputs for part in ("sin", "cos"))

    def units(self, inputs: Words) -> Words:
        return ("",) * (2 * len(inputs))

    @property
    def _unit(self) -> float:
        return 180 / math.pi if self.degrees else 1.0


@COLUMN_TRANSFORMS.add("range_to_unit")
@dataclass(frozen=True)
class RangeToUnit:
    """Numbers from `low` to `high`, as they were measured, to -1 to 1: a gripper's opening.

    Beyond the range the numbers go on in proportion; nothing is cut off. low may be the larger.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{name} is {value!r}: a number is needed")
        if not math.isfinite(self.low) or not math.isfinite(self.high) or self.low == self.high:
            raise ConfigError(
                f"low is {self.low} and high is {self.high}: two different finite numbers are "
                "needed, those measured at the range's ends"
            )

    def output_size(self, size: int) -> int:
        return size

    def apply(self, values: NDArray[Any]) -> Floats:
        share = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return np.asarray(2 * share - 1)

    def invert(self, values: NDArray[Any]) -> Floats:
        share = (np.asarray(values, np.float64) + 1) / 2
        return np.asarray(self.low + share * (self.high - self.low))

    def names(self, inputs: Words) -> Words:
        return inputs

    def units(self, inputs: Words) -> Words:
        return ("",) * len(inputs)


@COLUMN_TRANSFORMS.add("degrees_to_radians")
@dataclass(frozen=True)
class DegreesToRadians:
    """Degrees to radians."""

    def output_size(self, size: int) -> int:
        return size

    def apply(self, values: NDArray[Any]) -> Floats:
        return np.asarray(np.radians(np.asarray(values, np.float64)))

    def invert(self, values: NDArray[Any]) -> Floats:
        return np.asarray(np.degrees(np.asarray(values, np.float64)))

    def names(self, inputs: Words) -> Words:
        return inputs

    def units(self, inputs: Words) -> Words:
        for unit in inputs:
            if unit and canonical(unit) not in ("deg", "deg/s"):
                raise ConfigError(f"degrees_to_radians is given numbers in {unit!r}")
        return tuple("rad/s" if canonical(unit) == "deg/s" else "rad" for unit in inputs)
