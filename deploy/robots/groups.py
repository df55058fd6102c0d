"""Actions as groups: named parts, each with its kind, units, limits and meaning of HOLD.

ActionSpec.of(
    ActionGroup("arm", "joint_position", ("j1", "j2"), "rad", measured_by="joints",
                limits=Limits((-2.8,) * 2, (2.8,) * 2, (1.0,) * 2, (4.0,) * 2)),
    ActionGroup("gripper", "gripper", ("opening",), measured_by="width",
                measured_range=(0.0, 0.08), limits=Limits((0.0,), (1.0,), (2.0,), (20.0,))),
    ActionGroup("base", "twist", ("vx", "vy", "wz"), "m/s, rad/s", limits=...),
)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import canonical, unit_problem
from dipole.data.transforms import rotation as rotations
from dipole.deploy.safety.limits import Limits
from dipole.deploy.sequences import as_tuple
from dipole.deploy.types import Floats


class Kind(StrEnum):
    """What the numbers of a group set."""

    JOINT_POSITION = "joint_position"
    JOINT_VELOCITY = "joint_velocity"
    POSE = "pose"  # up to three coordinates, then a rotation
    TWIST = "twist"  # velocities of a base or an end effector
    GRIPPER = "gripper"  # an opening, continuous or 0 to 1
    DISCRETE = "discrete"  # one of a few values: a valve, a suction cup, a tool


POSITIONS = (Kind.JOINT_POSITION, Kind.POSE, Kind.GRIPPER)
VELOCITIES = (Kind.JOINT_VELOCITY, Kind.TWIST)
INTERPOLATIONS = ("linear", "cubic", "step")
FULL_TURN = {"rad": 2 * math.pi, "deg": 360.0}


def number_units(unit: str, size: int, rotation: str = "") -> tuple[str, ...]:
    """The unit of each of a group's numbers; "" where it has none, or where that is unknown.

    unit: of all that write no rotation, or one for each of them: "m/s, m/s, rad/s".
    size, rotation: of the group; see ActionGroup.
    """
    turning = rotations.SIZES.get(rotation, 0)
    straight = size - turning
    each = tuple(word.strip() for word in unit.split(","))
    listed = each if len(each) == straight else (each[0] if len(each) == 1 else "",) * straight
    turned = "rad" if rotation == rotations.VECTOR else ""
    return (*listed, *[turned] * turning)


@dataclass(frozen=True)
class ActionGroup:
    """One part of an action.

    name: of the group. kind: see Kind. names: one for each of its n numbers, in order.
    unit: of the numbers: "rad", "m"; or one for each: "m/s, m/s, rad/s". Not of a rotation's. Where
        a position has none, that of what measures it counts (RobotSpec).
    measured_by: the observation that measures what a position sets, in the same unit and order;
        required for positions, optional otherwise (velocities: else at rest at the start).
    columns: which of that observation's numbers, in the order of names (default: all, n of them).
    measured_range: what is measured at two commands, where a gripper's command and its measurement
        have different units.
    commanded_range: these two commands, n numbers each (default: low and high of the first limits
        that it has; others that a configuration gives later leave them as they are).
    rotation: how the last numbers of a pose write its rotation, see rotation.py.
    continuous: names of joints without an end, whose angle wraps; they go the short way, and
        their limits of position do not apply.
    interpolation: between two actions: linear, cubic or step (default: the loop's).
    hold: of a discrete group: "keep" its value in HOLD, or "rest".
    values: that a discrete group may take; rest: the one before the first action, and where
        hold="rest".
    limits: n numbers each; angular velocity and acceleration of a rotation, rad/s and rad/s2, are
        the least of those of its numbers.
    Raises ConfigError for what does not fit together.
    """

    name: str
    kind: str
    names: tuple[str, ...]
    unit: str = ""
    measured_by: str = ""
    columns: tuple[int, ...] = ()
    measured_range: tuple[float, float] | None = None
    commanded_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    rotation: str = ""
    continuous: tuple[str, ...] = ()
    interpolation: str = ""
    hold: str = "keep"
    values: tuple[float, ...] = ()
    rest: float | None = None
    limits: Limits | None = None

    def __post_init__(self) -> None:
        for name in ("names", "columns", "continuous", "values"):
            given = as_tuple(f"action group {self.name!r}: {name}", getattr(self, name))
            object.__setattr__(self, name, given)
        problems = (
            self._kind_problem(),
            self._measurement_problem(),
            self._commanded_range_problem(),
            self._deviation_problem(),
            self._angle_problem(),
            self._discrete_problem(),
        )
        if problem := next(filter(None, problems), ""):
            raise ConfigError(f"action group {self.name!r}: {problem}")
        if self.measured_range and self.limits is not None and self.commanded_range is None:
            object.__setattr__(self, "commanded_range", (self.limits.low, self.limits.high))

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each number; "" where it has none, as the numbers of a quaternion."""
        return number_units(self.unit, self.size, self.rotation)

    def with_limits(self, limits: Limits) -> "ActionGroup":
        """The same with other limits; where these have no max_deviation, its own stays."""
        if limits.max_deviation is None and self.limits is not None:
            limits = replace(limits, max_deviation=self.limits.max_deviation)
        return replace(self, limits=limits)

    @property
    def is_position(self) -> bool:
        return self.kind in POSITIONS

    @property
    def is_velocity(self) -> bool:
        return self.kind in VELOCITIES

    @property
    def is_discrete(self) -> bool:
        return self.kind == Kind.DISCRETE

    @property
    def turning(self) -> int:
        """How many of its last numbers write a rotation."""
        return rotations.SIZES.get(self.rotation, 0)

    @cached_property
    def periods(self) -> Floats:
        """Of each number, after how much it is the same again; 0 where it is not [n]."""
        return np.array(
            [
                turn if name in self.continuous else 0.0
                for name, turn in zip(self.names, self.turns, strict=True)
            ]
        )

    @cached_property
    def turns(self) -> tuple[float, ...]:
        """Of each number, how much a full turn is; 0 where it is no angle."""
        return tuple(FULL_TURN.get(canonical(unit), 0.0) for unit in self.units)

    def measured(self, observation: Mapping[str, NDArray[Any]]) -> Floats:
        """The command [n] at which the group is, by what is observed.

        Without measured_by: zeros for velocities, rest for discrete groups.
        """
        if not self.measured_by:
            return np.full(self.size, 0.0 if self.rest is None else self.rest)
        read = np.ravel(np.asarray(observation[self.measured_by], np.float64))
        read = read[list(self.columns)] if self.columns else read
        if self.measured_range is None or self.commanded_range is None:
            return read.copy()
        shut, opened = self.measured_range
        low, high = (np.array(ends, np.float64) for ends in self.commanded_range)
        return np.asarray(low + (read - shut) / (opened - shut) * (high - low), np.float64)

    def _kind_problem(self) -> str:
        if self.kind not in list(Kind):
            return f"kind is {self.kind!r}; it must be one of {', '.join(Kind)}"
        if not self.names:
            return "it has no names: give one for each of its numbers"
        if self.is_position and not self.measured_by:
            return (
                f"a {self.kind} without measured_by: name the observation that measures it, so that"
                " the first command starts where the robot is. (A valve or gripper that nothing "
                "measures is kind='discrete'; a velocity is joint_velocity or twist.)"
            )
        return ""

    def _measurement_problem(self) -> str:
        if self.columns and (len(self.columns) != self.size or min(self.columns) < 0):
            return f"columns is {self.columns}; {self.size} of them are needed, none negative"
        span = self.measured_range
        if span is not None and (not all(map(math.isfinite, span)) or span[0] == span[1]):
            return f"measured_range is {span}; two different finite numbers are needed"
        if self.limits is not None and len(self.limits.low) != self.size:
            return f"limits for {len(self.limits.low)} numbers; it has {self.size}"
        if self.is_velocity and self.limits is not None:
            for name, low, high in zip(self.names, self.limits.low, self.limits.high, strict=True):
                if not low <= 0.0 <= high:
                    return f"{name} goes from {low:g} to {high:g}: a velocity must be able to be 0"
        if self.interpolation and self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            return f"interpolation is {self.interpolation!r}; it is one of {known}"
        return ""

    def _commanded_range_problem(self) -> str:
        if self.commanded_range is None:
            return ""
        if self.measured_range is None:
            return "commanded_range without measured_range: say what is measured at these commands"
        low, high = self.commanded_range
        pairs = list(zip(low, high, strict=False))
        fits = len(low) == len(high) == self.size
        if not fits or not all(a != b and math.isfinite(a) and math.isfinite(b) for a, b in pairs):
            return (
                f"commanded_range is {self.commanded_range}; two different finite numbers for each "
                f"of {', '.join(self.names)} are needed, as ((0.0,), (1.0,)) for one"
            )
        return ""

    def _deviation_problem(self) -> str:
        most = None if self.is_position or self.limits is None else self.limits.max_deviation
        for name, value in zip(self.names, most or (), strict=False):
            if value < math.inf:
                return (
                    f"limits.max_deviation of {name} is {value:g}: it compares a measured position "
                    f"with its command, and {name} is none: give inf for it"
                )
        return ""

    def _angle_problem(self) -> str:
        if self.rotation and (self.kind != Kind.POSE or self.rotation not in rotations.SIZES):
            return (
                f"rotation is {self.rotation!r}; a pose may have one of "
                f"{', '.join(rotations.SIZES)}"
            )
        if self.turning > self.size:
            return f"a {self.rotation} takes {self.turning} numbers; it has {self.size}"
        if problem := self._unit_problem():
            return problem
        if missing := [name for name in self.continuous if name not in self.names]:
            return f"continuous names {missing[0]!r}, which is none of {', '.join(self.names)}"
        for name, unit, turn in zip(self.names, self.units, self.turns, strict=True):
            if name in self.continuous and not turn:
                return f"continuous joints are angles: {name} is in {unit!r}, not 'rad' or 'deg'"
        return ""

    def _unit_problem(self) -> str:
        """Else no number would count as an angle, and one that wraps would go unnoticed."""
        if problem := unit_problem(self.unit):
            return problem
        count, straight = self.unit.count(",") + 1, self.size - self.turning
        if count in (1, straight):
            return ""
        but = ", but for those of its rotation" if self.turning else ""
        return (
            f"unit is {self.unit!r}, {count} units for {straight} numbers: give one for all of "
            f"{', '.join(self.names)}{but}, or one for each"
        )

    def _discrete_problem(self) -> str:
        if self.hold not in ("keep", "rest") or (self.hold == "rest" and not self.is_discrete):
            return (
                f"hold is {self.hold!r}: 'keep', or 'rest' for discrete groups. In HOLD positions "
                "are kept and velocities go to zero"
            )
        if not self.is_discrete:
            wrong = "values" if self.values else "rest" if self.rest is not None else ""
            return f"{wrong} is for discrete groups only" if wrong else ""
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return f"values is {self.values}; a discrete group needs the finite values it may take"
        if self.rest is None and (not self.measured_by or self.hold == "rest"):
            return "rest is not set: say which of its values it has before the first action"
        if self.rest is not None and self.rest not in self.values:
            return f"rest is {self.rest}, none of its values {self.values}"
        return ""


@dataclass(frozen=True)
class ActionSpec:
    """The numbers of an action, in order: groups, or one group by its numbers.

    groups: the parts. Or, for a single group: names, unit, measured_by, kind as in ActionGroup;
    quaternions: where one unit quaternion (x, y, z, w) begins, which makes it a pose. The kind is
    joint_position where measured_by is given and the unit is no velocity; else it must be given.
    Raises ConfigError.
    """

    names: tuple[str, ...] = ()
    unit: str = ""
    measured_by: str = ""
    quaternions: tuple[int, ...] = ()
    kind: str = ""
    groups: tuple[ActionGroup, ...] = ()

    def __post_init__(self) -> None:
        for name in ("names", "quaternions", "groups"):
            object.__setattr__(self, name, as_tuple(name, getattr(self, name)))
        if self.groups:
            names = tuple(name for group in self.groups for name in group.names)
            self._check_not_both(names)
            object.__setattr__(self, "names", names)
        else:
            object.__setattr__(self, "groups", (self._single(),))
        for what, given in (("names", self.names), ("groups", [g.name for g in self.groups])):
            if twice := sorted({name for name in given if list(given).count(name) > 1}):
                raise ConfigError(f"two {what} of an action are called {twice[0]!r}")

    @classmethod
    def of(cls, *groups: ActionGroup) -> "ActionSpec":
        """An action of these groups, in this order."""
        return cls(groups=groups)

    @property
    def size(self) -> int:
        return len(self.names)

    @cached_property
    def parts(self) -> tuple[tuple[ActionGroup, slice], ...]:
        """Each group, and where its numbers are."""
        found, start = [], 0
        for group in self.groups:
            found.append((group, slice(start, start + group.size)))
            start += group.size
        return tuple(found)

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each number."""
        return tuple(unit for group in self.groups for unit in group.units)

    def with_limits(self, limits: Limits) -> "ActionSpec":
        """The same with limits for all numbers, in the place of those there are."""
        if len(limits.low) != self.size:
            raise ConfigError(f"limits for {len(limits.low)} numbers, actions have {self.size}")
        groups = tuple(
            group if group.is_discrete else group.with_limits(limits.part(part))
            for group, part in self.parts
        )
        return ActionSpec.of(*groups)

    def _check_not_both(self, names: tuple[str, ...]) -> None:
        """What is given beside groups may only say the same, as in a copy or a recording."""
        others = ("unit", "measured_by", "quaternions", "kind")
        given = [name for name in others if getattr(self, name)]
        same = self.names in ((), names)
        if same and given:
            groups = tuple(replace(group, limits=None) for group in self.groups)
            same = self.names == names and groups == (self._single(),)
        if not same:
            both = ", ".join(given) or "names"
            raise ConfigError(
                f"an action is given by its groups, or by its names, not by both: {both} beside "
                f"groups {', '.join(group.name for group in self.groups)}"
            )

    def _single(self) -> ActionGroup:
        kind, turned = self.kind, ""
        if self.quaternions:
            if self.quaternions != (len(self.names) - 4,) or kind not in ("", Kind.POSE):
                raise ConfigError(
                    f"the quaternion at {self.quaternions} does not fit: one quaternion, in the "
                    f"last four of {len(self.names)} numbers; else declare groups"
                )
            kind, turned = Kind.POSE, rotations.XYZW
        if not kind:
            if self.measured_by == "" or "/" in self.unit:
                raise ConfigError(
                    f"an action {', '.join(self.names)} in {self.unit or 'no unit'} without a "
                    "kind: give measured_by=, the observation that measures these positions; or "
                    f"kind=, one of {', '.join(Kind)}"
                )
            kind = Kind.JOINT_POSITION
        return ActionGroup("action", kind, self.names, self.unit, self.measured_by, rotation=turned)
