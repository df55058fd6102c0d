"""The newest readings of one channel: checked, with the times at which they were captured."""

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.deploy.observations.angles import Angles, angles_of
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.robot import Reading
from dipole.deploy.types import Floats

FUTURE = 0.005  # seconds that a reading may lie ahead: clocks of sensors are not exact
FROM_THE_FUTURE = "is from the future"
KEPT = 16  # readings: more than a camera is late
Values = NDArray[Any]


class ChannelBuffer:
    """The last readings of one channel, and what it would have read at another time.

    max_age: Seconds after capture at which its newest reading is too old.
    latency: Seconds that readings are older than they say.
    angles: What turns in a reading; default: what the channel declares.
    kept: How many readings.
    problem: Why the newest entry of a reading was not used, or what its sensor said was wrong; ""
        once a newer one is used.

    Of readings that are no newer than the last one, nothing is kept. Between two readings numbers
    are interpolated, rotations along the arc, angles that wrap the short way; of pictures and whole
    numbers, which have nothing between them, the nearest is used. Nothing is extrapolated.

    >>> buffer = ChannelBuffer("x", Channel((1,)))
    >>> for time in (1.0, 2.0):
    ...     problem = buffer.take(Reading(time, {"x": np.float32([20 * time])}), now=time)
    >>> [float(buffer.at(time)[0]) for time in (0.5, 1.25, 9.0)]
    [20.0, 25.0, 40.0]
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        max_age: float = math.inf,
        latency: float = 0.0,
        angles: Angles | None = None,
        kept: int = KEPT,
    ) -> None:
        self.problem = ""
        self._name, self._shape, self._dtype = name, channel.shape, np.dtype(channel.dtype)
        self._max_age, self._latency = max_age, latency
        self._angles = angles_of(name, channel) if angles is None else angles
        self._seen: deque[tuple[float, Values]] = deque(maxlen=kept)

    def clear(self) -> None:
        """Forget everything read."""
        self._seen.clear()
        self.problem = ""

    @property
    def time(self) -> float:
        """When the newest reading was captured; minus infinity if there is none."""
        return self._seen[-1][0] if self._seen else -math.inf

    @property
    def newest(self) -> Values | None:
        """The newest reading that can be used [*shape]."""
        return self._seen[-1][1] if self._seen else None

    def take(self, reading: Reading, now: float) -> str:
        """Look at the channel's entry of a reading; why it is not used, or ""."""
        reported = reading.problems.get(self._name, "")
        if self._name in reading.values:
            problem = self._take(reading, now)
        else:
            problem = reported or "is missing"
        self.problem = problem or reported or self.problem
        return problem

    def stale(self, now: float) -> str:
        """Why the newest reading cannot be acted upon at time `now`; "" if it can."""
        because = f" ({self._name}: {self.problem})" if self.problem else ""
        if not self._seen:
            return f"there is no reading of {self._name}{because}"
        if (age := now - self.time) <= self._max_age:
            return ""
        limit = f"more than {self._max_age:g} s"
        return f"the newest reading of {self._name} is {age:.2f} s old, {limit}{because}"

    def at(self, time: float) -> Values:
        """What was read, or would have been, at `time`. Raises IndexError where nothing was."""
        before = [pair for pair in self._seen if pair[0] <= time]
        after = [pair for pair in self._seen if pair[0] > time]
        if not before or not after:
            return (before or list(self._seen))[-1 if before else 0][1]
        (start, a), (end, b) = before[-1], after[0]
        return self._between(a, b, (time - start) / (end - start))

    def drop_before(self, time: float) -> None:
        """Forget what no time from `time` on lies next to: pictures are large."""
        while len(self._seen) > 1 and self._seen[1][0] <= time:
            self._seen.popleft()

    def _take(self, reading: Reading, now: float) -> str:
        time = _number(reading.times.get(self._name, reading.time)) - self._latency
        if problem := self._time_problem(time, now):
            return problem
        if time == self.time:
            return ""
        value = _array(reading.values[self._name])
        if problem := self._value_problem(value):
            return problem
        self._seen.append((time, value if reading.immutable else value.copy()))
        self.problem = ""
        return ""

    def _time_problem(self, time: float, now: float) -> str:
        if not math.isfinite(time):
            return "has a time that is not finite"
        if time > now + FUTURE:
            return FROM_THE_FUTURE
        return "went back in time" if time < self.time else ""

    def _value_problem(self, value: Values) -> str:
        if value.dtype.kind not in "fiub":
            return f"is no array of numbers (dtype {value.dtype})"
        if value.shape != self._shape:
            return f"has shape {list(value.shape)}"
        if self._dtype.kind != "f" and value.dtype != self._dtype:
            return f"has dtype {value.dtype}, not {self._dtype}"
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return "is not finite"
        return self._angles.problem(_flat(value)) if self._angles.rotations else ""

    def _between(self, a: Values, b: Values, t: float) -> Values:
        if a.dtype.kind != "f" or a.ndim > 2:
            return a if t < 0.5 else b
        return self._angles.between(_flat(a), _flat(b), t).reshape(a.shape).astype(a.dtype)


def _flat(value: Values) -> Floats:
    return value.astype(np.float64).ravel()


def _number(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        return math.nan


def _array(given: Any) -> Values:
    try:
        return np.asarray(given)
    except (TypeError, ValueError):  # lists of several lengths
        return np.array(None)
