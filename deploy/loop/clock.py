"""Time, as the control loop knows it: a real clock, and one for tests that never sleeps."""

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

SUSPENDED_SECONDS = 0.5  # more than two clocks differ by when they are read one after the other


def suspended() -> float:
    """Seconds for which this computer was suspended since it started; where that is not known, 0.

    `time.monotonic` stands still meanwhile: what was planned before would go on as if nothing was.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Seconds of a monotonic clock; the wall clock of a computer may be set back, this one not."""

    def now(self) -> float: ...

    def sleep_until(self, deadline: float) -> None:
        """Return at `deadline`, or at once where it has passed."""
        ...


class RealClock:
    """`time.monotonic`, which all processes of one computer share."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(left)


class VirtualClock:
    """A clock that moves only when it is told to, and then runs what was due on the way.

    Everything that happens in a test happens here, in the order of its time, and at equal times in
    the order in which it was asked for: the same test gives the same result.

    >>> clock = VirtualClock()
    >>> clock.call_at(2.0, lambda: print("two"))
    >>> clock.sleep_until(3.0)
    two
    >>> clock.now()
    3.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def call_at(self, moment: float, event: Callable[[], None]) -> None:
        """Call `event` when the clock gets to `moment`; at the next move where that has passed."""
        heapq.heappush(self._events, (moment, next(self._order), event))

    def sleep_until(self, deadline: float) -> None:
        while self._events and self._events[0][0] <= deadline:
            moment, _, event = heapq.heappop(self._events)
            self._now = max(self._now, moment)
            event()
        self._now = max(self._now, deadline)

    def advance(self, seconds: float) -> None:
        """Let time pass, as a call that blocks or a stopped process does."""
        self.sleep_until(self._now + seconds)
