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
    is also how hard it brakes before `low` and `high`. max_deviation: how far a position may be
    measured from its last command before the run ends (deviation.py), of a rotation the least of
    its numbers, rad; inf: any distance; None: no such limit.
    Raises ConfigError for limits that are not finite, empty, or of the wrong number.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    max_deviation: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in self._given:
            values = numbers(f"limits.{name}", getattr(self, name))
            object.__setattr__(self, name, values)
            if name != "max_deviation" and not all(map(math.isfinite, values)):
                raise ConfigError(f"limits.{name} is {list(values)}: limits are finite")
            if len(values) != len(self.low):
                raise ConfigError(
                    f"limits.{name} has {len(values)} values, limits.low has {len(self.low)}"
                )
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ConfigError(f"limits.low[{i}] is {low}, not below limits.high[{i}] = {high}")
        for name in self._given[2:]:
            for i, value in enumerate(getattr(self, name)):
                if not value > 0:
                    raise ConfigError(f"limits.{name}[{i}] is {value}; it must be positive")

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any] | None, size: int, own: "Limits | None" = None
    ) -> "Limits":
        """From plain values for an action of `size` numbers; refuses what is absent.

        A number stands for all of them. max_deviation may be absent. own: The limits there are
        already, of which values replace what they name.
        """
        if not isinstance(values, Mapping | None):
            raise ConfigError(f"limits are {values!r}; low, high, velocity and more are needed")
        told = {name: getattr(own, name) for name in own._given} if own is not None else {}
        given = {name: value for name, value in (values or {}).items() if value is not None}
        told |= spread(given, size)
        needed = [name for name in _names() if name != "max_deviation"]
        missing = [name for name in needed if name not in told]
        if missing:
            raise ConfigError(
                f"limits.{missing[0]} is not set. A robot is not moved without limits: give "
                + ", ".join(f"limits.{name}" for name in needed)
            )
        return cls(**told)

    def array(self, name: str) -> Floats:
        return np.asarray(getattr(self, name), np.float64)

    def part(self, part: slice) -> "Limits":
        """Those of some of the numbers."""
        return Limits(**{name: getattr(self, name)[part] for name in self._given})

    @property
    def _given(self) -> tuple[str, ...]:
        """The names of those that are set; low and high first."""
        return tuple(name for name in _names() if getattr(self, name) is not None)


def spread(values: Mapping[str, Any], size: int) -> dict[str, tuple[float, ...]]:
    """Limits by name, each a number or `size` of them, as `size` numbers each.

    Raises ConfigError for unknown names and other values.
    """
    known = _names()
    for name in values:
        if name not in known:
            raise ConfigError(f"limits have no entry {name!r}{nearest(name, known)}")
    return {name: _spread(name, value, size) for name, value in values.items()}


def _names() -> list[str]:
    return [field.name for field in fields(Limits)]


def _spread(name: str, value: Any, size: int) -> tuple[float, ...]:
    """A number for each of `size` entries, or that many numbers."""
    numbers = [value] * size if isinstance(value, int | float) else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) != size:
        raise ConfigError(f"limits.{name} is {value!r}; it must be a number, or {size} of them")
    try:
        return tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        raise ConfigError(f"limits.{name} is {value!r}; it must hold numbers") from None
