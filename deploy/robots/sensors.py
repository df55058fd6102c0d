"""Sensors whose read blocks: each is read in a thread of its own, and the control thread looks.

def connect(self):
    self.sensors = [
        Polled(self.wrist.read, 60, name="wrist"),           # waits for the next picture
        Polled(self.arm.read_joints, 200, name="joints"),
    ]

def observe(self):
    return newest_reading(*self.sensors)

def close(self):
    for sensor in self.sensors:
        sensor.close()
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.deploy.robots.robot import Reading

Values = NDArray[Any]
Read = Callable[[], Values | tuple[float, Values] | None]
KEPT = 4  # readings: as many as there are buffers in a driver that uses them in turns
RETRY_SECONDS = 0.05  # after a read that raised
STALLED_PERIODS, STALLED_SECONDS = 5, 0.2  # a read that takes longer is told


@dataclass(frozen=True)
class Captured:
    """A reading of one sensor [*shape], and when: seconds of time.monotonic()."""

    time: float
    value: Values


class Polled:
    """A sensor that is read again and again in a thread of its own, until it is closed.

    read: The driver's; it may block. It returns the value, an array [*shape]; or (seconds, value),
        if the driver knows when it was captured, in seconds of time.monotonic(); or None if there
        is nothing new. Without seconds a value was captured when read returned, less
        deploy.sensor_latency.
    hz: At most so many reads a second. If read waits for the next value, more than the sensor
        gives: a driver that queues would be ever further behind.
    name: Of the observation.
    copy: Whether each value is copied, in this thread: for a driver that writes the next value
        into the same memory, or that has few buffers and waits until one is released. A driver
        that is seen to do the former is copied from then on.

    newest: The last value; None before the first. An exception of `read` is told by `problem`, and
    read is called again: meanwhile the newest value ages, and the loop holds.
    """

    def __init__(self, read: Read, hz: float, *, name: str, copy: bool = False) -> None:
        if isinstance(hz, bool) or not isinstance(hz, int | float) or not 0 < hz < float("inf"):
            raise ConfigError(f"hz of the sensor {name!r} is {hz!r}; it must be a positive number")
        self.name = name
        self.error: Exception | None = None
        self._read, self._period, self._copies = read, 1.0 / hz, copy
        self._recent: deque[Captured] = deque(maxlen=KEPT)
        self._reading_since: float | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"dipole-{name}")
        self._thread.start()

    @property
    def newest(self) -> Captured | None:
        try:
            return self._recent[-1]
        except IndexError:
            return None

    @property
    def problem(self) -> str:
        """Why there is nothing newer; "" if nothing is known to be wrong."""
        error, since = self.error, self._reading_since
        if error is not None:
            return f"{type(error).__name__}: {error}"
        longest = max(STALLED_PERIODS * self._period, STALLED_SECONDS)
        if since is not None and time.monotonic() - since > longest:
            return "its read does not return"
        return ""

    def close(self, timeout: float = 0.5) -> bool:
        """Read no more; whether the thread has ended, which a read that blocks can prevent."""
        self._closed.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._reading_since = started = time.monotonic()
            try:
                self._take(self._read())
                self.error, pause = None, self._period
            except Exception as error:
                self.error, pause = error, max(self._period, RETRY_SECONDS)
            self._reading_since = None
            self._closed.wait(max(0.0, started + pause - time.monotonic()))

    def _take(self, found: Values | tuple[float, Values] | None) -> None:
        if found is None:
            return
        if isinstance(found, tuple):
            _check_pair(found)
        moment, value = found if isinstance(found, tuple) else (time.monotonic(), found)
        value = np.asarray(value)
        last = self.newest
        if last is not None and moment == last.time:
            return
        self._copies = self._copies or any(
            np.may_share_memory(value, each.value) for each in self._recent
        )
        self._recent.append(Captured(moment, value.copy() if self._copies else value))


def _check_pair(found: tuple[Any, ...]) -> None:
    """Raises TypeError for a tuple that is not (seconds, array), as joints given as a tuple."""
    if len(found) != 2 or (
        isinstance(found[1], int | float) and not isinstance(found[1], np.generic)
    ):
        raise TypeError(
            f"read returned {found!r:.60}: a tuple is (seconds, array); for a value alone, give an "
            "array"
        )


def newest_reading(*sensors: Polled) -> Reading | None:
    """The newest value of each sensor, and what is wrong with those that have a problem.

    None while one has neither: before its first value.
    """
    captured = {sensor.name: sensor.newest for sensor in sensors}
    problems = {sensor.name: sensor.problem for sensor in sensors}
    if any(captured[name] is None and not problems[name] for name in captured):
        return None
    found = {name: one for name, one in captured.items() if one is not None}
    times = {name: one.time for name, one in found.items()}
    return Reading(
        min(times.values(), default=time.monotonic()),
        {name: one.value for name, one in found.items()},
        times,
        {name: text for name, text in problems.items() if text},
        immutable=True,
    )
