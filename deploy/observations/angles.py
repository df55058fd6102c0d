"""Which numbers of a reading are rotations or angles that wrap, and readings between two others.

Readings are flat here: [n].
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dipole.data.core.units import canonical, each_unit
from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import FULL_TURN, ActionGroup
from dipole.deploy.types import Floats

ROUNDING = 1.0 + 1e-6  # a float32 pi is larger than pi


@dataclass(frozen=True)
class Rotation:
    """A rotation in a reading: its columns, in order, and how it is written (rotation.py)."""

    columns: tuple[int, ...]
    written: str

    def problem(self, values: Floats) -> str:
        """Why these numbers of a reading [n] are no rotation; "" if they are one."""
        given = values[list(self.columns)]
        try:
            with np.errstate(all="ignore"):
                length = float(np.linalg.norm(rotations.to_quaternion(given, self.written)))
        except (ValueError, OverflowError):
            length = 0.0
        if abs(length - 1.0) < 1e-6:
            return ""
        return f"has no {self.written} at {self.columns[0]}: {_listed(given)}"

    def between(self, a: Floats, b: Floats, t: float) -> Floats:
        """Along the arc from a (t = 0) to b (t = 1), the short way, written nearest to a."""
        start, end = a[list(self.columns)], b[list(self.columns)]
        first, last = (rotations.to_quaternion(x, self.written) for x in (start, end))
        middle = rotations.slerp(first, last, t)
        return np.array(rotations.from_quaternion(middle, self.written, start))


@dataclass(frozen=True)
class Angles:
    """Of a channel's numbers, which turn.

    rotations: Each of them.
    periods: ((column, after how much it is the same again), ...) of angles that wrap.
    """

    rotations: tuple[Rotation, ...] = ()
    periods: tuple[tuple[int, float], ...] = ()

    def problem(self, values: Floats) -> str:
        """Why a reading [n] cannot be used; "" if it can."""
        return next(filter(None, (each.problem(values) for each in self.rotations)), "")

    def between(self, a: Floats, b: Floats, t: float) -> Floats:
        """A reading [n] between two: a at t = 0, b at t = 1."""
        mixed = (1.0 - t) * a + t * b
        if self.periods:
            at = self._columns
            mixed[at] = _angles_between(a[at], b[at], t, self._turns)
        for each in self.rotations:
            mixed[list(each.columns)] = each.between(a, b, t)
        return mixed

    @cached_property
    def _columns(self) -> list[int]:
        return [column for column, _ in self.periods]

    @cached_property
    def _turns(self) -> Floats:
        return np.array([period for _, period in self.periods])


def angles_of(name: str, channel: Channel, groups: Iterable[ActionGroup] = ()) -> Angles:
    """What turns in a channel, by its declaration and by those of the groups that it measures."""
    width, size = channel.width, int(np.prod(channel.shape))
    units = each_unit(channel.units, width)
    found = [
        Rotation(tuple(range(row + start, row + start + rotations.SIZES[written])), written)
        for row in range(0, size, width)
        for start, written in channel.all_rotations
    ]
    periods = {
        row + column: FULL_TURN[canonical(units[column])]
        for row in range(0, size, width)
        for column in channel.continuous
    }
    declared = {column for each in found for column in each.columns} | set(periods)
    for group in groups:
        if group.measured_by != name:
            continue
        columns = group.columns or tuple(range(group.size))
        if group.turning and not declared & set(columns[-group.turning :]):
            found.append(Rotation(columns[-group.turning :], group.rotation))
        for column, period in zip(columns, group.periods, strict=True):
            if period and column not in declared:
                periods[column] = float(period)
    return Angles(tuple(found), tuple(periods.items()))


def _angles_between(a: Floats, b: Floats, t: float, turns: Floats) -> Floats:
    """The short way round; a result past the ends of the range is written as the driver would."""
    whole = np.round((b - a) / turns)  # turns between the two numbers
    mixed = a + t * (b - whole * turns - a)
    half = ROUNDING * turns / 2
    around_zero = np.maximum(np.abs(a), np.abs(b)) <= half  # -pi to pi
    from_zero = (np.minimum(a, b) >= 0) & (np.maximum(a, b) <= 2 * half)  # 0 to 2 pi
    low = np.where(around_zero, -turns / 2, 0.0)
    ranged = low + np.mod(mixed - low, turns)
    nearer = a if t < 0.5 else b
    near = mixed + turns * np.round((nearer - mixed) / turns)
    return np.where(whole == 0, mixed, np.where(around_zero | from_zero, ranged, near))


def _listed(values: Floats) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values) + "]"
