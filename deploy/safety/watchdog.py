"""The watchdog: a process of its own that stops the robot when the control loop's heartbeat ends.

It is for the loop that was killed, stopped, or hangs where nothing in its own process can help. It
is no certified emergency stop: the hardware's stays in charge.
"""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from dipole.data.errors import ConfigError, DipoleError

WATCHING, DONE, FIRED = 0, 1, 2
GRACE_SECONDS = 2.0


class WatchdogFired(DipoleError):  # noqa: N818  it is what happened
    """The watchdog has stopped the robot."""


class Watchdog:
    """Watches from the first `beat` to `close`.

    stopper: stops the robot from another process (see Robot.stopper); timeout: seconds without a
    beat after which it is called, once.
    """

    def __init__(self, stopper: Callable[[], None], timeout: float) -> None:
        if not timeout > 0:
            raise ConfigError(f"the watchdog's timeout is {timeout}; it must be positive")
        context = multiprocessing.get_context("spawn")
        self._beat = context.RawValue("d", 0.0)
        self._state = context.RawValue("i", WATCHING)
        self._timeout = timeout
        self._process = context.Process(
            target=_watch, args=(self._beat, self._state, stopper, timeout), daemon=True
        )
        self._process.start()

    @property
    def fired(self) -> bool:
        return bool(self._state.value == FIRED)

    def beat(self) -> None:
        """The loop lives. Raises WatchdogFired where the watchdog thought otherwise."""
        if self.fired:
            raise WatchdogFired(
                f"the watchdog stopped the robot: no heartbeat for {self._timeout:g} s"
            )
        self._beat.value = time.monotonic()

    def close(self) -> None:
        """The loop has ended, and stopped the robot itself."""
        if self._state.value == WATCHING:
            self._state.value = DONE
        self._process.join(GRACE_SECONDS)
        if self._process.exitcode is None:
            self._process.terminate()


def _watch(beat: Any, state: Any, stopper: Callable[[], None], timeout: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the loop's to answer
    while state.value == WATCHING:
        silence = time.monotonic() - beat.value if beat.value else 0.0
        if silence > timeout:
            state.value = FIRED
            print(f"watchdog: no heartbeat for {silence:.2f} s: stopping the robot",
                  file=sys.stderr, flush=True)  # fmt: skip
            stopper()
            return
        time.sleep(timeout / 10)
