"""Every action on its way to the robot, in a fixed order:

    finite -> keys and shape -> clamp position -> clamp velocity and acceleration -> interpolate

relative to the last *commanded* action. What makes no sense is refused, what is only too far or too
fast is clamped, and both are counted. The first two steps are `check_chunk`, before anything of a
chunk is used; the clamps are `ActionFilter`; interpolation.py is the last step.
"""

from dataclasses import dataclass

import numpy as np

from dipole.deploy.robots.robot import ActionSpec
from dipole.deploy.robots.rotation import angle, slerp, unit
from dipole.deploy.safety.chunk_checks import RefusedAction
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import Floats


@dataclass(frozen=True)
class Filtered:
    """An action [A] within the limits, and which limits it met: "position", "velocity" and
    "acceleration"."""

    action: Floats
    clamps: tuple[str, ...]


class ActionFilter:
    """Clamps actions at the policy's rate.

    Whatever the actions: the result never leaves `low` to `high`, never moves by more than
    velocity x dt, and changes its velocity by no more than acceleration x dt, because it brakes in
    time for the limits of position too. A result that lags behind catches up with the motion of
    the actions, braking in time for it, instead of swinging about it. Quaternions turn along the
    arc towards theirs, at most at the smallest of their four limits.

    dt: seconds between two actions. `reset` before the first, and after every hold.
    """

    def __init__(self, spec: ActionSpec, limits: Limits, dt: float) -> None:
        self._spec = spec
        self._dt = dt
        self._low, self._high = limits.array("low"), limits.array("high")
        self._most_velocity = limits.array("velocity")
        self._most_change = limits.array("acceleration") * dt  # of velocity, from action to action
        self._tolerance = 1e-9 * (self._high - self._low)

    def reset(self, still: Floats) -> None:
        """The robot rests at `still` [A]: the next action is limited relative to it."""
        self._last = np.array(still, np.float64)  # what was commanded
        self._aim = self._last  # what was asked for, within `low` to `high`
        self._velocity = np.zeros_like(self._last)
        self._turning = dict.fromkeys(self._spec.quaternions, 0.0)  # rad/s

    def commanded(self, action: Floats) -> None:
        """What was really sent last, where that is not the filter's last result."""
        self._last = np.array(action, np.float64)

    def __call__(self, action: Floats) -> Filtered:
        """The next action [A], clamped; raises RefusedAction where it is not finite or of A."""
        if action.shape != self._last.shape or not np.isfinite(action).all():
            raise RefusedAction(f"the action {action.tolist()} is not {len(self._last)} numbers")
        aim = np.clip(action, self._low, self._high)
        wanted = (aim - self._last) / self._dt
        velocity = self._allowed(aim)
        moved = self._last + velocity * self._dt
        exact = np.abs(moved - aim) <= self._tolerance
        result = np.where(exact, aim, moved)
        self._aim, self._velocity = aim, velocity
        fast = np.abs(wanted) > self._most_velocity * (1 + 1e-9)
        turned_short = self._turn(result, action, aim, exact, fast)
        clamped = (
            ("position", (aim != action).any()),
            ("velocity", (fast & ~exact).any() or turned_short),
            ("acceleration", (~exact & ~fast).any()),
        )
        self._last = result
        return Filtered(result, tuple(name for name, met in clamped if met))

    def _allowed(self, aim: Floats) -> Floats:
        """The velocity towards `aim` that all limits allow."""
        speed, change = self._most_velocity, self._most_change
        motion = np.clip((aim - self._aim) / self._dt, -speed, speed)  # of what is asked for
        lag = self._aim - self._last
        catching_up = np.minimum(np.abs(lag) / self._dt, self._braking(np.abs(lag)))
        velocity = np.clip(motion + np.sign(lag) * catching_up, -speed, speed)
        velocity = np.clip(velocity, self._velocity - change, self._velocity + change)
        below, above = self._last - self._low, self._high - self._last
        return np.asarray(np.clip(velocity, -self._braking(below), self._braking(above)))

    def _braking(self, distance: Floats) -> Floats:
        """The fastest speed from which the robot still stops within `distance`, step by step.

        In units of change x dt, speeds k, k - 1, ... 0 over n steps take n k - n (n - 1) / 2.
        """
        d = np.maximum(distance, 0.0) / (self._most_change * self._dt)
        n = np.maximum(np.ceil((np.sqrt(1 + 8 * d) - 1) / 2), 1.0)
        return (d / n + (n - 1) / 2) * self._most_change

    def _turn(
        self, result: Floats, action: Floats, aim: Floats, exact: np.ndarray, fast: np.ndarray
    ) -> bool:
        """Replace the quaternions of `result`; whether one was slowed down."""
        slowed = False
        for start, speed in self._turning.items():
            part = slice(start, start + 4)
            last, wanted = unit(self._last[part]), unit(action[part])
            theta = angle(last, wanted)
            allowed = min(
                float(self._most_velocity[part].min()),
                speed + float(self._most_change[part].min()),
            )
            share = min(1.0, allowed * self._dt / theta) if theta > 0 else 1.0
            result[part] = slerp(last, wanted, share)
            self._turning[start] = share * theta / self._dt
            slowed |= share < 1.0
            aim[part] = action[part]  # a quaternion has no limits of position
            exact[part], fast[part] = True, False
        return slowed
