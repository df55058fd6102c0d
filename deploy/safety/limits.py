"""How far, how fast and how suddenly a robot may be told to move. There is no default."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.deploy.sequences import numbers
from dipole.deploy.types import Floats


@dataclass(frozen=True)
class Limits:
    """Limits of each of the A numbers of an action, in the action's own units.

    low, high: positions; velocity: units per second; acceleration: units per second squared, which
    is also how hard it brakes before `low` and `high`. A number stands for all A of them.
    Raises ConfigError for limits that are not finite, empty, or of the wrong number.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            values = numbers(f"limits.{field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, values)
            if not all(math.isfinite(value) for value in values):
                raise ConfigError(f"limits.{field.name} is {list(values)}: limits are finite")
            if len(values) != len(self.low):
                raise ConfigError(
                    f"limits.{field.name} has {len(values)} values, limits.low has {len(self.low)}"
                )
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ConfigError(f"limits.low[{i}] is {low}, not below limits.high[{i}] = {high}")
        for name in ("velocity", "acceleration"):
            for i, value in enumerate(getattr(self, name)):
                if not value > 0:
                    raise ConfigError(f"limits.{name}[{i}] is {value}; it must be positive")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, size: int) -> "Limits":
        """From plain values for an action of `size` numbers; refuses what is absent."""
        known = [field.name for field in fields(cls)]
        given = dict(values or {})
        for name in given:
            if name not in known:
                raise ConfigError(f"limits have no entry {name!r}{nearest(name, known)}")
        missing = [name for name in known if given.get(name) is None]
        if missing:
            raise ConfigError(
                f"limits.{missing[0]} is not set. A robot is not moved without limits: give "
                + ", ".join(f"limits.{name}" for name in known)
            )
        return cls(**{name: _spread(name, given[name], size) for name in known})

    def array(self, name: str) -> Floats:
        return np.asarray(getattr(self, name), np.float64)

    def part(self, part: slice) -> "Limits":
        """Those of some of the numbers."""
        return Limits(**{field.name: getattr(self, field.name)[part] for field in fields(self)})


def _spread(name: str, value: Any, size: int) -> tuple[float, ...]:
    """A number for each of `size` entries, or that many numbers."""
    numbers = [value] * size if isinstance(value, int | float) else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) != size:
        raise ConfigError(f"limits.{name} is {value!r}; it must be a number, or {size} of them")
    try:
        return tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        raise ConfigError(f"limits.{name} is {value!r}; it must hold numbers") from None
