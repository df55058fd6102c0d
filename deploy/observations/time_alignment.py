"""Readings of several sensors, brought to one time: that of the camera, say.

camera   . . . C . . . . . . .          taken at C, arrives 80 ms later
joints   j0 . . . . . j1 . . .          read at once
used     camera at C, joints between j0 and j1 at C
"""

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dipole.deploy.robots.robot import Channel
from dipole.deploy.robots.rotation import slerp

KEPT = 16  # readings of a sensor: more than a camera is late
Values = NDArray[np.generic]


class SensorHistory:
    """The last readings of one sensor, and what it would have read at another time.

    Numbers are interpolated, unit quaternions along the arc; of images and whole numbers, which
    have nothing between them, the nearest is used. Before the first and after the last reading,
    that one: nothing is extrapolated.

    >>> history = SensorHistory(Channel((1,)))
    >>> history.add(1.0, np.float32([10])), history.add(2.0, np.float32([30]))
    (None, None)
    >>> [float(history.at(time)[0]) for time in (0.5, 1.25, 9.0)]
    [10.0, 15.0, 30.0]
    """

    def __init__(self, channel: Channel) -> None:
        self._quaternions = channel.quaternions
        self._seen: deque[tuple[float, Values]] = deque(maxlen=KEPT)

    def add(self, time: float, value: Values) -> None:
        """A reading captured at `time`; one that is not newer than the last is not new."""
        if not self._seen or time > self._seen[-1][0]:
            self._seen.append((time, value))

    def at(self, time: float) -> Values:
        """What was read, or would have been, at `time`. Raises IndexError where nothing was."""
        before = [pair for pair in self._seen if pair[0] <= time]
        after = [pair for pair in self._seen if pair[0] > time]
        if not before or not after:
            return (before or list(self._seen))[-1 if before else 0][1]
        (start, a), (end, b) = before[-1], after[0]
        return self._between(a, b, (time - start) / (end - start))

    def _between(self, a: Values, b: Values, t: float) -> Values:
        if a.dtype.kind != "f":
            return a if t < 0.5 else b
        mixed = (1.0 - t) * np.asarray(a, np.float64) + t * np.asarray(b, np.float64)
        for first in self._quaternions:
            part = slice(first, first + 4)
            mixed[..., part] = slerp(
                np.asarray(a[..., part], np.float64), np.asarray(b[..., part], np.float64), t
            )
        return mixed.astype(a.dtype)


class Alignment:
    """The newest readings of all channels, at the time of one of them.

    reference: the name of that one.
    """

    def __init__(self, channels: Mapping[str, Channel], reference: str) -> None:
        self._channels, self._reference = channels, reference
        self.reset()

    def reset(self) -> None:
        """Forget all readings."""
        self._histories = {name: SensorHistory(c) for name, c in self._channels.items()}

    def aligned(
        self, times: Mapping[str, float], values: Mapping[str, Values]
    ) -> dict[str, Values]:
        """New readings, captured at `times`, at the time of the reference's newest."""
        for name, history in self._histories.items():
            if name in values:
                history.add(times[name], values[name])
        known = self._histories.items()
        time = times[self._reference]
        return {name: history.at(time) for name, history in known if name in values}
