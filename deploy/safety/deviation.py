"""How far a robot is measured from its last command; beyond limits.max_deviation the run ends.

A robot that does not follow (a protective stop, a released brake, something in its way) would move
to its last command at its own speed as soon as it can. Positions are compared, each number in its
own unit, angles without an end the short way, rotations by the angle between them.
"""

import math
from dataclasses import dataclass

import numpy as np

from dipole.data.core.errors import DipoleError
from dipole.data.core.units import canonical
from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.action_math import unwrapped
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.types import Floats


class Deviated(DipoleError):  # noqa: N818  it is what happened
    """The robot is further from its last command than limits.max_deviation allows."""


@dataclass(frozen=True)
class Deviation:
    """How far the robot is from its last command.

    largest: {"": (how far, unit)} of all numbers of a unit; with several groups {"_arm": ...}, and
        with several units in a group {"_tool_m": ..., "_tool_rad": ...}.
    problem: What is further than its setting allows, and both numbers; "" if nothing is.
    """

    largest: dict[str, tuple[float, str]]
    problem: str


class DeviationCheck:
    """Compares where a robot is measured with where it was commanded last.

    spec: of its actions.
    """

    def __init__(self, spec: ActionSpec) -> None:
        several = len(spec.groups) > 1
        self._parts = [
            (_GroupDeviation(group, f"_{group.name}" if several else ""), part)
            for group, part in spec.parts
            if group.is_position
        ]

    def compare(self, measured: Floats, commanded: Floats) -> Deviation:
        """How far apart they are: [A] each."""
        largest: dict[str, tuple[float, str]] = {}
        problems = []
        for group, part in self._parts:
            found = group.compare(measured[part], commanded[part])
            largest |= found.largest
            problems.append(found.problem)
        return Deviation(largest, next(filter(None, problems), ""))


class _GroupDeviation:
    """The same for the numbers [n] of a group; called: what its samples are called."""

    def __init__(self, group: ActionGroup, called: str) -> None:
        self._group, self._m = group, group.size - group.turning
        limits = group.limits
        most = limits.max_deviation if limits is not None else None
        most = most or (math.inf,) * group.size
        turned = [min(most[self._m :])] if group.turning else []
        self._most = np.array([*most[: self._m], *turned])
        units = [canonical(unit) for unit in group.units[: self._m]]
        self._units = [*units, "rad"] if group.turning else units
        several = len(set(self._units)) > 1
        self._entries = {
            f"{called}_{unit}" if several and unit else called: (
                unit,
                [i for i, each in enumerate(self._units) if each == unit],
            )
            for unit in dict.fromkeys(self._units)
        }

    def compare(self, measured: Floats, commanded: Floats) -> Deviation:
        apart = self._apart(measured, commanded)
        largest = {
            name: (float(apart[entries].max()), unit)
            for name, (unit, entries) in self._entries.items()
        }
        beyond = ~(apart <= self._most)  # what is no number is beyond it
        problem = self._problem(int(beyond.argmax()), apart, measured, commanded)
        return Deviation(largest, problem if beyond.any() else "")

    def _apart(self, measured: Floats, commanded: Floats) -> Floats:
        """How far each coordinate is from its command; last, the angle of a rotation."""
        m, group = self._m, self._group
        near = unwrapped(measured[:m], commanded[:m], group.periods[:m])
        straight = np.abs(near - commanded[:m])
        if not group.turning:
            return straight
        ends = (rotations.to_quaternion(x[m:].tolist(), group.rotation)
                for x in (measured, commanded))  # fmt: skip
        return np.append(straight, rotations.angle(*ends))

    def _problem(self, entry: int, apart: Floats, measured: Floats, commanded: Floats) -> str:
        unit = f" {self._units[entry]}".rstrip()
        if entry < self._m:
            where = (
                f"{self._group.names[entry]} is measured at {measured[entry]:.4g}{unit} and was "
                f"last commanded to {commanded[entry]:.4g}{unit}, {apart[entry]:.4g}{unit} away"
            )
        else:
            seen, told = (np.round(x[self._m :], 4).tolist() for x in (measured, commanded))
            where = (
                f"the rotation of {self._group.name} is {apart[entry]:.4g}{unit} from the last "
                f"command: measured {seen}, commanded {told}"
            )
        return (
            f"{where}: further than limits.max_deviation = {self._most[entry]:g}{unit} allows. "
            "Does it follow its commands? (a protective stop, a released brake, something in its "
            "way)"
        )
