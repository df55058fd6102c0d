"""The last gate: each command compared with the two before it, whoever made it.

It does not share the command filter's arithmetic. What it refuses is a defect of this program, and
the robot is stopped.
"""

import numpy as np

from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.safety.supervisor import RobotFault
from dipole.deploy.types import Floats

TOLERANCE = 1e-5  # relative to a limit
EPSILON = 16 * float(np.finfo(np.float64).eps)  # relative to a number: rounding


class CommandGate:
    """Lets commands pass; dt: seconds between two of them. clamps: of the newest command.

    Raises RobotFault for one that is not finite, outside the box, or further from the last one, or
    more of another velocity, than a command's time allows.
    """

    def __init__(self, spec: ActionSpec, dt: float) -> None:
        self.clamps: tuple[str, ...] = ()
        self._size = spec.size
        self._groups = [(GroupGate(group, dt), part) for group, part in spec.parts]

    def start(self, measured: Floats) -> None:
        """The robot rests at `measured` [A]."""
        for gate, part in self._groups:
            gate.start(measured[part])

    def check(self, command: Command, stood: bool = False) -> Command:
        """The same command, if it may be sent; stood: whether what is controlled by position stood
        still since the last one."""
        values = command.values
        if values.shape != (self._size,) or not np.isfinite(values).all():
            raise RobotFault(f"a command is not {self._size} finite numbers: {values}")
        for gate, part in self._groups:
            if problem := gate.problem(values[part], stood):
                raise RobotFault(f"a command would leave the limits: {gate.group.name}: {problem}")
        self.clamps = command.clamps
        return command


class GroupGate:
    """The same for the numbers of one group."""

    def __init__(self, group: ActionGroup, dt: float) -> None:
        self.group, self._dt = group, dt
        self._last: Floats | None = None
        if group.is_discrete:
            return
        assert group.limits is not None
        self._m = m = group.size - group.turning
        low, high, speed, change = (
            group.limits.array(name) for name in ("low", "high", "velocity", "acceleration")
        )
        endless = group.periods > 0
        self._low = np.where(endless, -np.inf, low - EPSILON * np.abs(low))[:m]
        self._high = np.where(endless, np.inf, high + EPSILON * np.abs(high))[:m]
        self._speed, self._change = speed[:m], change[:m] * dt
        self._spin = float(speed[m:].min(initial=np.inf))
        self._spin_change = float(change[m:].min(initial=np.inf)) * dt

    def start(self, measured: Floats) -> None:
        """The group rests there [n]."""
        self._last, self._first = np.array(measured), True
        if not self.group.is_discrete:
            self._v = np.zeros(self._m + (3 if self.group.turning else 0))

    def problem(self, command: Floats, stood: bool) -> str:
        """Why a command [n] may not be sent after those before it, or ""."""
        group = self.group
        if group.is_discrete:
            return "" if np.isin(command, group.values).all() else f"{command} is no value of it"
        outside = (command[: self._m] < self._low) | (command[: self._m] > self._high)
        if outside.any():
            return f"{group.names[int(np.argmax(outside))]} is outside its box"
        if self._last is None:
            return "it was not started"
        v = self._velocity(command, self._last)
        before = np.zeros_like(v) if stood and not group.is_velocity else self._v
        # A robot measured a little outside its box is moved to the edge first.
        entered = self._first and not np.array_equal(
            np.clip(self._last[: self._m], self._low, self._high), self._last[: self._m]
        )
        problem = self._speed_problem(command, v) or (
            "" if entered else self._change_problem(command, v - before)
        )
        self._v = np.zeros_like(v) if entered else v
        self._last, self._first = np.array(command), False
        return problem

    def _velocity(self, command: Floats, last: Floats) -> Floats:
        """From the last command [n] to this one [m], or [m + 3]."""
        way = command[: self._m] - last[: self._m]
        if self.group.turning:
            ends = (rotations.to_quaternion(x[self._m :].tolist(), self.group.rotation)
                    for x in (last, command))  # fmt: skip
            way = np.concatenate([way, rotations.between(*ends)])
        return way / self._dt

    def _speed_problem(self, command: Floats, v: Floats) -> str:
        rounding = EPSILON * np.abs(command[: self._m]) / self._dt
        fast = np.abs(v[: self._m]) > self._speed * (1 + TOLERANCE) + rounding
        return self._named(fast, v, self._spin * (1 + TOLERANCE), "faster than its limit")

    def _change_problem(self, command: Floats, change: Floats) -> str:
        rounding = 2 * EPSILON * np.abs(command[: self._m]) / self._dt
        slack = TOLERANCE * (self._change + self._speed) + rounding
        sudden = np.abs(change[: self._m]) > self._change + slack
        most = self._spin_change + TOLERANCE * (self._spin_change + self._spin)
        return self._named(sudden, change, most, "accelerated beyond its limit")

    def _named(self, met: "np.ndarray", vector: Floats, most_turning: float, what: str) -> str:
        if met.any():
            return f"{self.group.names[int(np.argmax(met))]} is {what}"
        turns = self.group.turning and float(np.linalg.norm(vector[self._m :])) > most_turning
        return f"its rotation is {what}" if turns else ""
