"""One number of a command and its limits: how fast it may be, so that it can still stop in time."""

import math
from dataclasses import dataclass

ROUNDING = 1e-9  # of a range, or of a limit
FLOAT32 = 1e-6  # relative: what policies say is rounded to single precision


@dataclass(frozen=True)
class Axis:
    """Limits of one number, for commands that follow each other after dt seconds.

    speed: Units per second. change: Of the velocity from one command to the next. period: After how
    much it is the same again, 0 where it is not.
    """

    name: str
    low: float
    high: float
    speed: float
    change: float
    period: float
    dt: float

    @property
    def close(self) -> float:
        """What is nearer than this to where it goes is there."""
        step = min(self.speed, self.change) * self.dt
        return min(ROUNDING * (self.high - self.low), FLOAT32 * step)

    @property
    def slack(self) -> float:
        """Further outside than this is more than rounding to single precision."""
        return FLOAT32 * (self.high - self.low + max(abs(self.low), abs(self.high)))

    def clipped(self, x: float) -> float:
        return x if self.period else min(max(x, self.low), self.high)

    def unwrapped(self, x: float, near: float) -> float:
        """An angle, by whole turns nearest to another, if it wraps.

        Raises ValueError for one so large that it is lost in rounding.
        """
        if not self.period:
            return x
        found = x + round((near - x) / self.period) * self.period
        if abs(found - near) > self.period:
            raise ValueError(f"{x:g} is no angle of {self.name}")
        return found

    def next(self, x: float, v: float, wanted: float) -> float:
        """The velocity nearest to `wanted`, at x with velocity v, that can still stop in time."""
        if not self.period:
            up = braking(self.high - x, self.change, self.dt)
            down = braking(x - self.low, self.change, self.dt)
            wanted = min(max(wanted, -down), up)
        return min(max(wanted, v - self.change), v + self.change)


def braking(distance: float, change: float, dt: float) -> float:
    """The largest velocity from which it still stops within a distance, command by command.

    In units of change x dt, velocities k, k - 1, ... 0 over n commands take n k - n (n - 1) / 2.
    """
    d = max(distance, 0.0) / (change * dt)
    n = max(math.ceil((math.sqrt(1 + 8 * d) - 1) / 2), 1)
    return (d / n + (n - 1) / 2) * change
