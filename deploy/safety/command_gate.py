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
        self._spec, self._dt = spec, dt
        self._last: Floats | None = None

    def check(self, command: Command) -> Command:
        """The same command, if it may be sent."""
        values = command.values
        if values.shape != (self._spec.size,) or not np.isfinite(values).all():
            raise RobotFault(f"a command is not {self._spec.size} finite numbers: {values}")
        for group, part in self._spec.parts:
            last = None if self._last is None else self._last[part]
            if problem := _problem(group, values[part], last, self._dt):
                raise RobotFault(f"a command would leave the limits: {group.name}: {problem}")
        self._last, self.clamps = values, command.clamps
        return command


def _problem(group: ActionGroup, command: Floats, last: Floats | None, dt: float) -> str:
    if group.is_discrete:
        return "" if np.isin(command, group.values).all() else f"{command} is no value of it"
    assert group.limits is not None
    m = group.size - group.turning
    low, high, speed = (group.limits.array(name) for name in ("low", "high", "velocity"))
    slack = TOLERANCE * (high - low)
    bounded = group.periods[:m] == 0
    outside = ((command < low - slack) | (command > high + slack))[:m] & bounded
    if outside.any():
        return f"{group.names[int(np.argmax(outside))]} outside its box"
    return "" if last is None else _too_fast(group, command, last, speed, slack, dt)


def _too_fast(
    group: ActionGroup, command: Floats, last: Floats, speed: Floats, slack: Floats, dt: float
) -> str:
    m = group.size - group.turning
    fast = np.abs(command - last)[:m] > speed[:m] * dt * (1 + TOLERANCE) + slack[:m]
    if fast.any():
        return f"{group.names[int(np.argmax(fast))]} faster than its limit"
    if not group.turning:
        return ""
    before, after = (rotations.to_quaternion(x[m:], group.rotation) for x in (last, command))
    turned = rotations.angle(before, after)
    if turned > float(speed[m:].min()) * dt * (1 + TOLERANCE) + TOLERANCE:
        return "its rotation is faster than its limit"
    return ""
