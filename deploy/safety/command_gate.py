"""The last gate: each command compared with the one before it, whoever made it.

It shares no arithmetic with the command filter. What it refuses is a defect of this program, and
the robot is stopped.
"""

import numpy as np

from dipole.deploy.robots import rotation as rotations
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.safety.supervisor import RobotFault
from dipole.deploy.types import Floats

TOLERANCE = 1e-6  # relative


class CommandGate:
    """Lets commands pass; dt: seconds between two of them. clamps: of the newest command.

    Raises RobotFault for one that is not finite, outside the box, or further from the last one than
    a command's time allows.
    """

    def __init__(self, spec: ActionSpec, dt: float) -> None:
        self.clamps: tuple[str, ...] = ()
        self._size = spec.size
        self._groups = [(GroupGate(group, dt), part) for group, part in spec.parts]
        self._last: Floats | None = None

    def check(self, command: Command) -> Command:
        """The same command, if it may be sent."""
        values = command.values
        if values.shape != (self._size,) or not np.isfinite(values).all():
            raise RobotFault(f"a command is not {self._size} finite numbers: {values}")
        for gate, part in self._groups:
            last = None if self._last is None else self._last[part]
            if problem := gate.problem(values[part], last):
                raise RobotFault(f"a command would leave the limits: {gate.group.name}: {problem}")
        self._last, self.clamps = values, command.clamps
        return command


class GroupGate:
    """The same for the numbers of one group."""

    def __init__(self, group: ActionGroup, dt: float) -> None:
        self.group = group
        if group.is_discrete:
            return
        assert group.limits is not None
        self._m = m = group.size - group.turning
        low, high, speed = (group.limits.array(name) for name in ("low", "high", "velocity"))
        slack = TOLERANCE * (high - low)
        endless = group.periods > 0
        self._low = np.where(endless, -np.inf, low - slack)[:m]
        self._high = np.where(endless, np.inf, high + slack)[:m]
        self._furthest = (speed * dt * (1 + TOLERANCE) + slack)[:m]
        if group.turning:
            self._furthest_turned = float(speed[m:].min()) * dt * (1 + TOLERANCE) + TOLERANCE

    def problem(self, command: Floats, last: Floats | None) -> str:
        """Why a command [n] may not be sent after the last one [n], or ""."""
        group = self.group
        if group.is_discrete:
            return "" if np.isin(command, group.values).all() else f"{command} is no value of it"
        m = self._m
        outside = (command[:m] < self._low) | (command[:m] > self._high)
        if outside.any():
            return f"{group.names[int(np.argmax(outside))]} outside its box"
        if last is None:
            return ""
        fast = np.abs(command[:m] - last[:m]) > self._furthest
        if fast.any():
            return f"{group.names[int(np.argmax(fast))]} faster than its limit"
        return self._rotation_problem(command[m:], last[m:]) if group.turning else ""

    def _rotation_problem(self, command: Floats, last: Floats) -> str:
        after, before = (rotations.to_quaternion(x, self.group.rotation) for x in (command, last))
        too_far = rotations.angle(before, after) > self._furthest_turned
        return "its rotation is faster than its limit" if too_far else ""
