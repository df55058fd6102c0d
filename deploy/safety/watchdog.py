"""The watchdog: a process of its own that stops the robot when the control loop cannot.

It is for the loop that was killed, suspended, or hangs where nothing in its own process can help.
It is no certified emergency stop: the hardware's stays in charge.

    constructor          the process is started, and watches when the constructor returns:
                         from here on the robot is stopped if the loop's process ends
    first beat() ...     and if there is no beat for `timeout` seconds
    stopping(seconds)    a stop is in progress: no beat is expected meanwhile, and `timeout` longer
    close()              the robot has been stopped: nothing is watched any more
"""

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.loop.clock import SUSPENDED_SECONDS, suspended
from dipole.deploy.safety.attempt import attempt
from dipole.deploy.safety.signals import ignore_terminal_signals

START_SECONDS = 60.0  # to start an interpreter on a busy computer
LOOK_SECONDS = 0.02  # between two looks of the watchdog's process, or timeout / 10
STALE_SECONDS = 1.0  # without a look of the watchdog's process, or 4 * timeout
STOP_SECONDS = 10.0  # of attempts to stop the robot
ATTEMPT_SECONDS = 1.0  # for one of them to return, before the next
PAUSE_SECONDS = 0.1  # between them
GRACE_SECONDS = 2.0


class WatchdogError(DipoleError):
    """The watchdog could not begin to watch."""


class WatchdogFired(DipoleError):  # noqa: N818  it is what happened
    """The watchdog has stopped the robot, or is about to."""


class WatchdogDied(DipoleError):  # noqa: N818  it is what happened
    """The watchdog's process has ended or hangs."""


class _Memory(ctypes.Structure):
    """What both processes see. Times are monotonic seconds. Each field has one writer."""

    _fields_ = (
        ("suspended", ctypes.c_double),  # what suspended() was at the beginning
        ("beat", ctypes.c_double),  # the loop's last one
        ("stopping_until", ctypes.c_double),  # no beat is expected before
        ("disarmed", ctypes.c_int64),  # by the loop
        ("asked", ctypes.c_int64),  # by the loop: stop the robot now
        ("look", ctypes.c_double),  # the watchdog's last one
        ("fired", ctypes.c_int64),  # by the watchdog: it stops the robot
        ("stopped", ctypes.c_int64),  # by the watchdog: stopper() has returned
    )


class Watchdog:
    """Stops the robot from another process; see the states above.

    stopper: Stops the robot from another process; see Robot.stopper. It is called until it returns,
        for STOP_SECONDS at most.
    timeout: Seconds without a beat after which the robot is stopped.

    Raises WatchdogError if the process does not begin to watch.
    """

    def __init__(self, stopper: Callable[[], None], timeout: float) -> None:
        if not 0 < timeout < float("inf"):
            raise ConfigError(f"the watchdog's timeout is {timeout}; it must be a positive number")
        context = multiprocessing.get_context("spawn")
        self._timeout = timeout
        self._stale = max(STALE_SECONDS, 4 * timeout)
        self._died = False
        self._memory: Any = context.RawValue(_Memory)
        self._memory.suspended = suspended()
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, _Sealed(self._memory, stopper), timeout, os.getpid())
        self._process = context.Process(target=_watch, args=arguments, daemon=True)
        try:
            self._process.start()
        except Exception as error:  # of whatever the stopper holds
            raise WatchdogError(
                f"what the robot's stopper() returned cannot be sent to another process: {error}. "
                "It must be a function of a module, or a functools.partial of one"
            ) from error
        atexit.register(self._ask)  # a program that ends without closing it
        theirs.close()
        try:
            with ours:
                self._await_ready(ours)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def fired(self) -> bool:
        """Whether it stopped the robot, or tries to."""
        return bool(self._memory.fired)

    @property
    def stopped(self) -> bool:
        """Whether it stopped the robot: its stopper() has returned."""
        return bool(self._memory.stopped)

    def beat(self) -> None:
        """The loop lives. To be called in each control slot, before its command.

        Raises WatchdogFired if the robot was stopped, or must be by now: send no command then.
        Raises WatchdogDied, once, if nobody watches any more: the robot can be braked, and must.
        """
        memory = self._memory
        if memory.fired or _silent(memory, self._timeout):
            raise WatchdogFired(
                "the watchdog stopped the robot: "
                + (_silent(memory, self._timeout) or "it was asked to")
            )
        now = time.monotonic()
        memory.beat = now
        if not self._died and (died := self._why_dead(now)):
            self._died = True
            raise WatchdogDied(f"the watchdog's process (pid {self.pid}) {died}")

    def stopping(self, seconds: float) -> None:
        """The loop stops the robot, for which it may take so long without a beat."""
        self._memory.stopping_until = time.monotonic() + seconds + self._timeout

    def stop_robot(self) -> bool:
        """Have the watchdog stop the robot, and wait; whether its stopper() returned."""
        self._ask()
        wait([self._process.sentinel], STOP_SECONDS + GRACE_SECONDS)
        return self.stopped

    def close(self) -> None:
        """The robot has been stopped: watch no more. A watchdog that fired is waited for."""
        atexit.unregister(self._ask)
        self._memory.disarmed = 1
        self._process.join(STOP_SECONDS + GRACE_SECONDS if self.fired else GRACE_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(GRACE_SECONDS)

    def _why_dead(self, now: float) -> str:
        if wait([self._process.sentinel], 0):
            return "has ended"
        age = now - self._memory.look
        return f"hangs: its last sign of life is {age:.1f} s old" if age > self._stale else ""

    def _ask(self) -> None:
        self._memory.asked = 1

    def _await_ready(self, pipe: Connection) -> None:
        problem = f"it was not watching after {START_SECONDS:g} s"
        with contextlib.suppress(OSError):
            if pipe.poll(START_SECONDS):
                try:
                    problem = pipe.recv()
                except EOFError:
                    self._process.join(GRACE_SECONDS)
                    problem = f"it ended with exit code {self._process.exitcode}"
        if problem:
            raise WatchdogError(f"the watchdog's process did not begin to watch: {problem}")


class _Sealed:
    """What is on its way to the process, unpickled where an error of that can be reported.

    All that may be in shared memory is in one: what is pickled twice cannot be inherited.
    """

    def __init__(self, *content: Any) -> None:
        self._content = content

    def __reduce__(self) -> Any:
        return bytes, (bytes(ForkingPickler.dumps(self._content)),)


# In the watchdog's process ------------------------------------------------------------------------


def _watch(pipe: Connection, sealed: bytes, timeout: float, owner: int) -> None:
    """The process's life. In a session of its own no terminal reaches it."""
    os.setsid()
    ignore_terminal_signals("SIGTERM")
    try:
        memory, stopper = ForkingPickler.loads(sealed)
    except Exception as error:
        pipe.send(f"its stopper cannot be unpickled there ({type(error).__name__}: {error})")
        return
    memory.look = time.monotonic()
    with contextlib.suppress(OSError), pipe:
        pipe.send("")
    while not memory.disarmed:
        memory.look = time.monotonic()
        if reason := _reason(memory, timeout, owner):
            memory.fired = 1
            _say(f"{reason}: stopping the robot")
            memory.stopped = _stopped(stopper)
            return
        time.sleep(min(LOOK_SECONDS, timeout / 10))


def _reason(memory: Any, timeout: float, owner: int) -> str:
    """Why the robot must be stopped now, "" if it need not."""
    if os.getppid() != owner:
        return f"the control loop's process (pid {owner}) has ended"
    if memory.asked:
        return "the control loop asks for it"
    return _silent(memory, timeout)


def _silent(memory: Any, timeout: float) -> str:
    """Why the loop counts as gone, "" if it does not."""
    now = time.monotonic()
    if (slept := suspended() - memory.suspended) > SUSPENDED_SECONDS:
        return f"the computer was suspended for {slept:.1f} s"
    if memory.beat and now - memory.beat > timeout and now > memory.stopping_until:
        return f"no heartbeat for {timeout:g} s"
    return ""


def _stopped(stopper: Callable[[], None]) -> bool:
    """Call a stopper until it returns; whether it did."""
    deadline = time.monotonic() + STOP_SECONDS
    while problem := attempt(stopper, ATTEMPT_SECONDS):
        if time.monotonic() > deadline:
            _say(f"the robot's stopper() failed for {STOP_SECONDS:g} s ({problem}). "
                 "Use the hardware's emergency stop")  # fmt: skip
            return False
        _say(f"the robot's stopper() failed, trying again: {problem}")
        time.sleep(PAUSE_SECONDS)
    _say("the robot's stopper() returned")
    return True


def _say(text: str) -> None:
    """Print in a thread of its own: a terminal may be closed, or take nothing for long."""

    def write() -> None:
        with contextlib.suppress(OSError, ValueError):
            print(f"watchdog: {text}", file=sys.stderr, flush=True)

    threading.Thread(target=write, daemon=True, name="dipole-watchdog-print").start()
