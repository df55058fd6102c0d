"""The command filter: the last thing before the robot, at the rate at which commands are sent.

Whatever reference it is given, every command is finite, inside the box, and within velocity and
acceleration from the one before it; and it can always still stop before the box's edge.

    reference   r r r r r r r . . . . .      the interpolated actions; none in HOLD
    command     c c c c c c c c c c c c      follows; brakes where there is none, then stays

With dt between commands c[k] and v[k] = (c[k] - c[k-1]) / dt, for each number: |v[k]| <= velocity,
|v[k] - v[k-1]| <= acceleration x dt, low <= c[k] <= high. Rotations have angular velocity vectors
in the place of v, and the same two limits on their lengths.

The axes of a group accelerate in the same proportion, so that the way from rest to rest is a
straight line. Groups are independent of each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dipole.data.core.errors import DipoleError
from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.groups import ActionGroup, ActionSpec, Kind
from dipole.deploy.safety.axis import FLOAT32, ROUNDING, Axis, braking
from dipole.deploy.types import Floats


class OutsideLimits(DipoleError):  # noqa: N818  it is what happened
    """The robot stands outside its limits, so that nothing may be commanded."""


MARGIN = 0.01  # of a range: a reference further outside the box was meant to be somewhere else


@dataclass(frozen=True)
class Command:
    """What to send [A].

    outside: whether its reference lies outside the box of a position by more than a hundredth of
        its range: no rounding, and no saturation of a gripper or a velocity.
    clamps: which limits it met: "position", "velocity", "acceleration"; of several groups each with
        its group's name before it: "arm velocity".
    behind: seconds at full speed by which it lags behind its reference, over all numbers the most.
    """

    values: Floats
    clamps: tuple[str, ...] = ()
    behind: float = 0.0
    outside: bool = False


class CommandFilter:
    """Filters the commands of all groups; dt: seconds between two commands.

    `reset` before the first command.
    """

    def __init__(self, spec: ActionSpec, dt: float) -> None:
        self._parts = [
            (ChoiceFilter(group) if group.is_discrete else MotionFilter(group, dt), part)
            for group, part in spec.parts
        ]
        several = len(spec.groups) > 1
        self._prefixes = [f"{group.name} " if several else "" for group in spec.groups]

    def reset(self, start: Floats) -> None:
        """The robot rests at `start` [A], as measured. Raises OutsideLimits."""
        for each, part in self._parts:
            each.reset(np.array(start[part], np.float64))

    def rest(self) -> None:
        """No command was sent for a while: what is controlled by position stands still."""
        for each, _ in self._parts:
            each.rest()

    def step(self, reference: Floats | None) -> Command:
        """The next command: towards a reference [A], or None to brake and stay."""
        found = [
            each.step(None if reference is None else reference[part]) for each, part in self._parts
        ]
        return Command(
            np.concatenate([command.values for command in found]),
            tuple(
                prefix + clamp
                for prefix, command in zip(self._prefixes, found, strict=True)
                for clamp in command.clamps
            ),
            max(command.behind for command in found),
            any(command.outside for command in found),
        )

    @property
    def at_rest(self) -> bool:
        """Whether the next braking command would be the same again."""
        return all(each.at_rest for each, _ in self._parts)

    @property
    def stopping_seconds(self) -> float:
        """How long braking takes at most."""
        return max(each.stopping_seconds for each, _ in self._parts)


class ChoiceFilter:
    """Discrete numbers: the allowed value nearest to what is wanted."""

    stopping_seconds = 0.0

    def __init__(self, group: ActionGroup) -> None:
        self._values = np.array(sorted(group.values))
        self._hold = None if group.hold == "keep" else group.rest
        self._last = np.full(group.size, self._values[0])

    def reset(self, start: Floats) -> None:
        self._last = self._nearest(start)

    def rest(self) -> None:
        pass

    @property
    def at_rest(self) -> bool:
        return self._hold is None or bool((self._last == self._hold).all())

    def step(self, reference: Floats | None) -> Command:
        if reference is not None and np.isfinite(reference).all():
            self._last = self._nearest(reference)
        elif self._hold is not None:
            self._last = np.full_like(self._last, self._hold)
        return Command(self._last.copy())

    def _nearest(self, wanted: Floats) -> Floats:
        nearest = np.abs(wanted[:, None] - self._values).argmin(axis=1)
        return np.asarray(self._values[nearest], np.float64)


Place = tuple[list[float], list[float]]  # coordinates [m]; quaternion [4], or []


class MotionFilter:
    """Numbers that move: m coordinates, and a rotation where the group is a pose with one.

    A velocity is a list of m numbers, or of m + 3 with the angular velocity last.
    """

    def __init__(self, group: ActionGroup, dt: float) -> None:
        assert group.limits is not None, "the loop refuses robots without limits"
        self._group, self._dt = group, dt
        self._m = m = group.size - group.turning
        limits = group.limits
        per_axis = (limits.low, limits.high, limits.velocity, limits.acceleration, group.periods)
        self._axes = [
            Axis(name, low, high, velocity, acceleration * dt, float(period), dt)
            for name, low, high, velocity, acceleration, period in zip(
                group.names[:m], *(each[:m] for each in per_axis), strict=True
            )
        ]
        self._close = [axis.close for axis in self._axes]
        self._slack = [axis.slack for axis in self._axes]
        saturates = group.is_velocity or group.kind == Kind.GRIPPER
        self._margins = [
            math.inf if saturates else MARGIN * (axis.high - axis.low) for axis in self._axes
        ]
        self._speeds = [axis.speed for axis in self._axes]
        self._changes = [axis.change for axis in self._axes]
        self._spin = min(limits.velocity[m:], default=math.inf)
        self._spin_change = min(limits.acceleration[m:], default=math.inf) * dt
        self._close_turned = min(ROUNDING, FLOAT32 * min(self._spin_change, self._spin) * dt)

    def reset(self, start: Floats) -> None:
        """It rests at `start` [n]. Raises OutsideLimits."""
        x, q = self._split(start)
        for axis, at, unit in zip(self._axes, x, self._group.units, strict=False):
            if abs(axis.clipped(at) - at) > axis.speed * self._dt:
                raise OutsideLimits(
                    f"{f'{axis.name} is measured at {at:.6g} {unit}'.rstrip()}, outside its limits "
                    f"{axis.low:g} to {axis.high:g}: move it inside by other means, or correct the "
                    "limits"
                )
        inside = [axis.clipped(at) for axis, at in zip(self._axes, x, strict=True)]
        self._entering = inside != x  # the first command moves it to the edge, and no further
        self._at = inside, q
        self._sent = self._joined(start)
        self._stand()

    def rest(self) -> None:
        if not self._group.is_velocity:
            self._stand()

    def _stand(self) -> None:
        self._v = [0.0] * (self._m + (3 if self._group.turning else 0))
        self._aim = self._at

    @property
    def at_rest(self) -> bool:
        return not any(self._v) and not (self._group.is_velocity and any(self._at[0]))

    @property
    def stopping_seconds(self) -> float:
        """From the largest velocity, at most; of a velocity itself, from its largest to zero, after
        it has turned round."""
        seconds = max((axis.speed * self._dt / axis.change for axis in self._axes), default=0.0)
        if self._group.turning:
            seconds = max(seconds, self._spin * self._dt / self._spin_change)
        if self._group.is_velocity:
            furthest = max(max(abs(axis.low), abs(axis.high)) / axis.speed for axis in self._axes)
            seconds = 4 * seconds + furthest
        return seconds

    def step(self, reference: Floats | None) -> Command:
        """The next command [n] towards a reference [n]; None brakes, and so does one that is not
        finite."""
        if self._entering:
            self._entering = False
            return Command(self._sent.copy(), ("position",))
        goal = self._goal(reference)
        if goal is None:
            self._aim = self._at
            self._move([0.0] * len(self._v))
            self._aim = self._at
            return Command(self._sent.copy())
        wanted, q = goal
        x = [axis.clipped(number) for axis, number in zip(self._axes, wanted, strict=True)]
        beyond = [abs(a - b) for a, b in zip(x, wanted, strict=True)]
        met_edge = any(a > slack for a, slack in zip(beyond, self._slack, strict=True))
        outside = any(a > margin for a, margin in zip(beyond, self._margins, strict=True))
        moved = _difference(self._aim, (x, q))
        way = _difference(self._at, (x, q))
        behind = [a - b for a, b in zip(way, moved, strict=True)]
        share = self._catching_up(behind)
        velocity = [a / self._dt + b * share for a, b in zip(moved, behind, strict=True)]
        self._aim = x, q
        self._move(rotations.scaled(self._share(velocity, self._speeds, self._spin), velocity))
        velocity = rotations.scaled(1 / self._dt, way)
        too_fast = self._share(velocity, self._speeds, self._spin) < 1 - ROUNDING
        return self._followed(met_edge, too_fast, outside)

    def _goal(self, reference: Floats | None) -> Place | None:
        """Where to go, if anywhere."""
        if reference is None or not np.isfinite(reference).all():
            return ([0.0] * self._m, []) if self._group.is_velocity else None
        try:
            x, q = self._split(reference)
            near = zip(self._axes, x, self._at[0], strict=True)
            return [axis.unwrapped(to, at) for axis, to, at in near], q
        except ValueError:  # no rotation, or no angle
            return None

    def _move(self, wanted: Sequence[float]) -> None:
        """One step at the velocity nearest to `wanted` that the limits allow."""
        change = [a - b for a, b in zip(wanted, self._v, strict=True)]
        share = self._share(change, self._changes, self._spin_change)
        velocity = [v + share * c for v, c in zip(self._v, change, strict=True)]
        (x, q), (aim, aim_q) = self._at, self._aim
        new_x, new_v = [], velocity
        for i, axis in enumerate(self._axes):
            v = axis.next(x[i], self._v[i], velocity[i])
            to = axis.clipped(x[i] + v * self._dt)
            to = aim[i] if abs(to - aim[i]) <= self._close[i] else to
            new_x.append(to)
            new_v[i] = (to - x[i]) / self._dt if v else 0.0
        if q:
            turn = rotations.scaled(self._dt, velocity[self._m :])
            q = rotations.unit(rotations.multiply(rotations.exponential(turn), q))
            q = aim_q if rotations.angle(q, aim_q) <= self._close_turned else q
        self._at, self._v = (new_x, q), new_v
        self._sent = self._joined(self._sent)

    def _followed(self, met_edge: bool, too_fast: bool, outside: bool) -> Command:
        left = _difference(self._at, self._aim)
        behind = max((abs(a) / b for a, b in zip(left, self._speeds, strict=False)), default=0.0)
        if self._group.turning:
            behind = max(behind, math.hypot(*left[self._m :]) / self._spin)
        late = behind > ROUNDING
        met = {"position": met_edge, "velocity": late and too_fast,
               "acceleration": late and not too_fast}  # fmt: skip
        clamps = tuple(name for name, true in met.items() if true)
        return Command(self._sent.copy(), clamps, behind, outside)

    def _catching_up(self, behind: Sequence[float]) -> float:
        """The share of what it is behind to make up for, per second: the same for all axes."""
        limits = [(abs(a), axis.change, axis.speed)
                  for a, axis in zip(behind, self._axes, strict=False)]  # fmt: skip
        if self._group.turning:
            limits.append((math.hypot(*behind[self._m :]), self._spin_change, self._spin))
        share = 1.0 / self._dt
        for distance, change, speed in limits:
            if distance > 0:
                share = min(share, min(braking(distance, change, self._dt), speed) / distance)
        return share

    def _share(self, vector: Sequence[float], most: Sequence[float], most_turning: float) -> float:
        """The largest share, at most 1, of a vector that stays within limits."""
        ratio = max((abs(a) / b for a, b in zip(vector, most, strict=False)), default=0.0)
        if self._group.turning:
            ratio = max(ratio, math.hypot(*vector[self._m :]) / most_turning)
        return 1.0 if ratio <= 1.0 else 1.0 / ratio

    def _split(self, values: Floats) -> Place:
        """Coordinates [m] and quaternion [4] of a command. Raises ValueError for no rotation."""
        numbers = values.tolist()
        x, q = numbers[: self._m], numbers[self._m :]
        return x, rotations.to_quaternion(q, self._group.rotation) if q else q

    def _joined(self, near: Floats) -> Floats:
        x, q = self._at
        if q:
            q = rotations.from_quaternion(q, self._group.rotation, near[self._m :].tolist())
        return np.array([*x, *q])


def _difference(a: Place, b: Place) -> list[float]:
    """The way from a place to another [m], or [m + 3]."""
    straight = [there - here for here, there in zip(a[0], b[0], strict=True)]
    return straight + rotations.between(a[1], b[1]) if a[1] else straight
