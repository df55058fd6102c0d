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

from dataclasses import dataclass

import numpy as np

from dipole.data.errors import DipoleError
from dipole.deploy.robots import rotation as rotations
from dipole.deploy.robots.action_math import unwrapped
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.types import Floats

ROUNDING = 1e-9  # of a range, or of a limit
FLOAT32 = 1e-6  # relative: what policies say is rounded to single precision


class OutsideLimits(DipoleError):  # noqa: N818  it is what happened
    """The robot stands outside its limits, so that nothing may be commanded."""


@dataclass(frozen=True)
class Command:
    """What to send [A].

    clamps: which limits it met: "position", "velocity", "acceleration"; of several groups each with
        its group's name before it: "arm velocity".
    behind: seconds at full speed by which it lags behind its reference, over all numbers the most.
    """

    values: Floats
    clamps: tuple[str, ...] = ()
    behind: float = 0.0


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


class MotionFilter:
    """Numbers that move: m coordinates, and a rotation where the group is a pose with one.

    A velocity is a vector [m], or [m + 3] with the angular velocity last.
    """

    def __init__(self, group: ActionGroup, dt: float) -> None:
        assert group.limits is not None, "the loop refuses robots without limits"
        self._group, self._dt = group, dt
        self._m = group.size - group.turning
        limits, m = group.limits, self._m
        low, high = limits.array("low")[:m], limits.array("high")[:m]
        endless = group.periods[:m] > 0
        self._low, self._high = np.where(endless, -np.inf, low), np.where(endless, np.inf, high)
        self._periods = group.periods[:m]
        self._speed = limits.array("velocity")[:m]
        self._change = limits.array("acceleration")[:m] * dt  # of velocity, between commands
        self._spin = float(limits.array("velocity")[m:].min(initial=np.inf))
        self._spin_change = float(limits.array("acceleration")[m:].min(initial=np.inf)) * dt
        self._close = np.minimum(ROUNDING * (high - low), FLOAT32 * self._change * dt)
        self._slack = FLOAT32 * (high - low + np.maximum(np.abs(low), np.abs(high)))

    def reset(self, start: Floats) -> None:
        """It rests at `start` [n]. Raises OutsideLimits."""
        x, q = self._split(start)
        step = self._speed * self._dt
        outside = np.flatnonzero((x < self._low - step) | (x > self._high + step))
        if len(outside):
            i = int(outside[0])
            raise OutsideLimits(
                f"{self._group.names[i]} is measured at {x[i]:.6g} {self._group.unit}, outside its "
                f"limits {self._low[i]:g} to {self._high[i]:g}: move it inside by other means, or "
                "correct the limits"
            )
        self._x, self._q = np.clip(x, self._low, self._high), q
        self._sent = self._joined(start)
        self.rest()

    def rest(self) -> None:
        if not self._group.is_velocity or not hasattr(self, "_v"):
            self._v = np.zeros(self._m + (3 if self._group.turning else 0))
        self._aim_x, self._aim_q = self._x, self._q

    @property
    def at_rest(self) -> bool:
        still = not self._v.any()
        return still and not (self._group.is_velocity and self._x.any())

    @property
    def stopping_seconds(self) -> float:
        """From the largest velocity; of a velocity itself, from its largest to zero as well."""
        seconds = float((self._speed * self._dt / self._change).max(initial=0.0))
        if self._group.turning:
            seconds = max(seconds, self._spin * self._dt / self._spin_change)
        if self._group.is_velocity:
            far = np.maximum(np.abs(self._low), np.abs(self._high))
            seconds += float((far / self._speed).max())
        return seconds

    def step(self, reference: Floats | None) -> Command:
        """The next command [n] towards a reference [n]; None brakes."""
        if reference is None or not np.isfinite(reference).all():
            reference = np.zeros_like(self._sent) if self._group.is_velocity else None
        if reference is None:
            self._aim_x, self._aim_q = self._x, self._q
            self._move(np.zeros_like(self._v))
            self._aim_x, self._aim_q = self._x, self._q
            return Command(self._sent.copy())
        wanted, q = self._split(reference, near=self._x)
        x = np.clip(wanted, self._low, self._high)
        met_edge = bool((np.abs(x - wanted) > self._slack).any())
        motion = self._difference(self._aim_x, self._aim_q, x, q) / self._dt
        way = self._difference(self._x, self._q, x, q)
        behind = way - motion * self._dt
        velocity = motion + behind * self._catching_up(behind)
        self._aim_x, self._aim_q = x, q
        self._move(velocity * self._share(velocity, self._speed, self._spin))
        too_fast = self._share(way / self._dt, self._speed, self._spin) < 1 - ROUNDING
        return self._followed(met_edge, too_fast)

    def _move(self, wanted: Floats) -> None:
        """One step at the velocity nearest to `wanted` that the limits allow."""
        m, dt = self._m, self._dt
        change = wanted - self._v
        v = self._v + change * self._share(change, self._change, self._spin_change)
        v[:m] = np.clip(
            v[:m],
            -_braking(self._x - self._low, self._change, dt),
            _braking(self._high - self._x, self._change, dt),
        )
        v[:m] = np.clip(v[:m], self._v[:m] - self._change, self._v[:m] + self._change)
        x = np.clip(self._x + v[:m] * dt, self._low, self._high)
        near = np.abs(x - self._aim_x) <= self._close
        x = np.where(near, self._aim_x, x)
        self._v = np.concatenate([(x - self._x) / dt, v[m:]])
        self._v[:m][v[:m] == 0] = 0.0
        self._x = x
        if self._group.turning:
            self._turn(v[m:])
        self._sent = self._joined(self._sent)

    def _turn(self, spin: Floats) -> None:
        q = rotations.unit(rotations.multiply(rotations.exponential(spin * self._dt), self._q))
        if rotations.angle(q, self._aim_q) <= ROUNDING:
            q = self._aim_q
        self._q = q

    def _followed(self, met_edge: bool, too_fast: bool) -> Command:
        left = np.abs(self._difference(self._x, self._q, self._aim_x, self._aim_q))
        behind = float((left[: self._m] / self._speed).max(initial=0.0))
        if self._group.turning:
            behind = max(behind, float(np.linalg.norm(left[self._m :])) / self._spin)
        late = behind > ROUNDING
        met = {"position": met_edge, "velocity": late and too_fast,
               "acceleration": late and not too_fast}  # fmt: skip
        return Command(self._sent.copy(), tuple(name for name, true in met.items() if true), behind)

    def _catching_up(self, behind: Floats) -> float:
        """The share of what it is behind to make up for, per second: the same for all axes."""
        m, share = self._m, 1.0 / self._dt
        far = np.abs(behind[:m])
        fast = np.minimum(_braking(far, self._change, self._dt), self._speed)
        for distance, speed in zip(far.tolist(), fast.tolist(), strict=True):
            if distance > 0:
                share = min(share, speed / distance)
        if self._group.turning and (turn := float(np.linalg.norm(behind[m:]))) > 0:
            spin = _braking(np.array([turn]), np.array([self._spin_change]), self._dt)[0]
            share = min(share, min(float(spin), self._spin) / turn)
        return share

    def _share(self, vector: Floats, most: Floats, most_turning: float) -> float:
        """The largest share, at most 1, of a vector that stays within limits."""
        ratio = float((np.abs(vector[: self._m]) / most).max(initial=0.0))
        if self._group.turning:
            ratio = max(ratio, float(np.linalg.norm(vector[self._m :])) / most_turning)
        return 1.0 if ratio <= 1.0 else 1.0 / ratio

    def _difference(self, x: Floats, q: Floats, to_x: Floats, to_q: Floats) -> Floats:
        if not self._group.turning:
            return to_x - x
        return np.concatenate([to_x - x, rotations.between(q, to_q)])

    def _split(self, values: Floats, near: Floats | None = None) -> tuple[Floats, Floats]:
        """Coordinates [m] and quaternion [4] of a command; angles by whole turns near others."""
        x, q = values[: self._m], values[self._m :]
        if near is not None and self._group.continuous:
            x = unwrapped(x, near, self._periods)
        return x, rotations.to_quaternion(q, self._group.rotation) if len(q) else q

    def _joined(self, near: Floats) -> Floats:
        if not self._group.turning:
            return self._x
        written = rotations.from_quaternion(self._q, self._group.rotation, near[self._m :])
        return np.concatenate([self._x, written])


def _braking(distance: Floats, change: Floats, dt: float) -> Floats:
    """The largest velocity from which it still stops within a distance, command by command [m].

    In units of change x dt, velocities k, k - 1, ... 0 over n commands take n k - n (n - 1) / 2.
    """
    d = np.maximum(distance, 0.0) / (change * dt)
    finite = np.isfinite(d)
    d = np.where(finite, d, 0.0)
    n = np.maximum(np.ceil((np.sqrt(1 + 8 * d) - 1) / 2), 1.0)
    return np.asarray(np.where(finite, (d / n + (n - 1) / 2) * change, np.inf), np.float64)
