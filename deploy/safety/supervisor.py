"""Calls of the robot's own code, which may raise, block, or take too long: each is a fault."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Protocol

import numpy as np

from dipole.data.core.errors import DipoleError
from dipole.deploy.loop.clock import SUSPENDED_SECONDS, Clock, suspended
from dipole.deploy.loop.log import LOGGER
from dipole.deploy.robots.robot import Reading, Robot
from dipole.deploy.safety.attempt import attempt
from dipole.deploy.types import Floats

MONITOR_SECONDS = 0.02
CLOSE_SECONDS = 10.0  # for close(): brakes engage, then the drives are switched off
LAST_SECONDS = 0.01  # for a call that is about to begin or to end


class RobotFault(DipoleError):  # noqa: N818  it is what happened
    """The robot's own code raised, or took too long; call: which part of it, if that is known."""

    def __init__(self, message: str, call: str = "") -> None:
        super().__init__(message)
        self.call = call


class Supervisor:
    """A robot whose every call is timed, and to which nothing is sent after it was told to stop.

    It is for one run, from connect() to close(): make a new one after a reset, so that a thread of
    the run before, stuck in a call and awake again, has nothing to send with.

    close_problem: what went wrong in the robot's close(); "" for nothing, None before it.
    call: (name, when it began) of the call of command, hold or observe in progress, for Monitor.
    stopping: Called with the seconds that stop() may take, when it begins; see Watchdog.stopping.
    """

    def __init__(
        self,
        robot: Robot,
        clock: Clock,
        call_timeout: float,
        stop_timeout: float,
        stopping: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.call: tuple[str, float] | None = None
        self.stop_problem = ""
        self.close_problem: str | None = None
        self.call_timeout = call_timeout
        self.stopping = stopping
        self._robot = robot
        self._clock = clock
        self._stop_timeout = stop_timeout
        self._sending = threading.Lock()  # held while the robot is sent something
        self._stop_once = threading.Lock()
        self._stopped: bool | None = None
        self._under_way: list[str] = []  # attempts that have not returned
        self._overtaken = False  # stop() did not wait for a call that was stuck
        self._connected = False
        self._forbidden = False

    def connect(self) -> None:
        """It may take its time: nothing moves yet.

        Where it raises, the robot's close() is called, for what was opened until then. Raises
        RobotFault, which says if that did not succeed either.
        """
        try:
            with self._reported("connect"):
                self._robot.connect()
        except BaseException as error:
            if (problem := self._close()) and isinstance(error, RobotFault):
                message = f"{error}; its close() did not succeed either: {problem}"
                raise RobotFault(message, error.call) from error.__cause__
            raise
        self._connected = True

    def observe(self) -> Reading | None:
        """The robot's newest reading; a RobotFault if it returned anything else."""
        with self._timed("observe"):
            found = self._robot.observe()
        if problem := _reading_problem(found):
            raise RobotFault(f"the robot's observe() returned {problem}", "observe")
        return found

    def observe_in_time(self) -> Reading | None:
        """The same, in a thread of its own: before motion, no Monitor watches a call that blocks.

        A RobotFault after call_timeout. The clock must be real.
        """
        found: list[Reading | BaseException | None] = []
        over = threading.Event()

        def observe() -> None:
            try:
                found.append(self.observe())
            except BaseException as error:
                found.append(error)
            over.set()

        threading.Thread(target=observe, daemon=True, name="dipole-observe").start()
        while not over.wait(MONITOR_SECONDS):
            if problem := _overdue(self.call, self._clock.now(), self.call_timeout):
                raise RobotFault(problem, "observe")
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def command(self, action: Floats) -> bool:
        """Send an action [A]; whether it was sent. Nothing is after forbid() or stop()."""
        return self._send("command", partial(self._robot.command, action.copy()))

    def hold(self) -> bool:
        """Have the robot hold; whether it was told to, as in command()."""
        return self._send("hold", self._robot.hold)

    def forbid(self) -> None:
        """Send no command from now on; from any thread, and without waiting."""
        self._forbidden = True

    def stop(self) -> bool:
        """One attempt, in a thread of its own, because it may block; whether it returned in time.

        A command in progress is waited for until its call_timeout, so that stop() is the last that
        the robot is told. If it returns only later, the robot is told to stop once more. Whoever
        asks again learns what came of the first attempt.
        """
        self.forbid()
        with self._stop_once:
            if self._stopped is None:
                self.stopping(self.call_timeout + self._stop_timeout)
                self._stopped = self._stop()
            return self._stopped

    def close(self) -> str | None:
        """Close the connection, once, within CLOSE_SECONDS; see close_problem."""
        self.forbid()
        if self._connected:
            self._connected = False
            self._close()
        return self.close_problem

    def _close(self) -> str:
        self.close_problem = problem = self._attempt("close", self._robot.close, CLOSE_SECONDS)
        if problem:
            LOGGER.error(
                f"the robot's close() did not succeed: {problem}. What it switches off, such as "
                "motors, may still be on"
            )
        return problem

    def _stop(self) -> bool:
        if not self._connected:
            self.stop_problem = "the robot was not connected"
            return False
        waited = self._sending.acquire(timeout=self._rest_of_call())
        self._overtaken = not waited
        try:
            self.stop_problem = self._attempt("stop", self._robot.stop, self._stop_timeout)
        finally:
            if waited:
                self._sending.release()
        return not self.stop_problem

    def _attempt(self, name: str, call: Callable[[], None], seconds: float) -> str:
        """As attempt(), of a call that is under way until it returns."""

        def run() -> None:
            try:
                call()
            finally:
                self._under_way.remove(name)

        self._under_way.append(name)
        return attempt(run, seconds)

    @property
    def stuck(self) -> str:
        """The call that could still move, stop or close the robot, because it has not returned; or
        ""."""
        call = self.call
        if call is not None and call[0] != "observe":
            return call[0]
        return next(iter(self._under_way), "")

    def _rest_of_call(self) -> float:
        """Seconds that the call in progress still has, of its call_timeout."""
        call = self.call
        left = 0.0 if call is None else call[1] + self.call_timeout - self._clock.now()
        return max(LAST_SECONDS, left)

    def _send(self, name: str, call: Callable[[], None]) -> bool:
        with self._sending:
            if self._forbidden:
                return False
            try:
                with self._timed(name):
                    call()
            finally:
                if self._overtaken and self._connected:
                    self._attempt("stop", self._robot.stop, self._stop_timeout)
        return True

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = self._clock.now()
        self.call = (name, started)
        try:
            with self._reported(name):
                yield
        finally:
            self.call = None
        if (took := self._clock.now() - started) > self.call_timeout:
            raise RobotFault(f"the robot's {name}() took {took:.3f} s (call_timeout)", name)

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            message = f"the robot's {name}() raised {type(error).__name__}: {error}"
            raise RobotFault(message, name) from error


def _overdue(call: tuple[str, float] | None, now: float, most: float) -> str:
    """What is wrong with a call (name, when it began) that has not returned; "" if nothing is."""
    if call is None or (took := now - call[1]) <= most:
        return ""
    return f"the robot's {call[0]}() has not returned for {took:.2f} s (call_timeout)"


def _reading_problem(found: object) -> str:
    """What is wrong with what observe() returned; "" if it can be used."""
    if found is None or (isinstance(found, Reading) and isinstance(found.values, Mapping)):
        return ""
    if isinstance(found, Reading):
        what = f"a Reading whose values are {found.values!r:.60}"
    elif isinstance(found, np.ndarray):
        what = f"an array of shape {found.shape}"
    elif isinstance(found, Mapping):
        what = f"a {type(found).__name__} ({', '.join(map(str, found))})"
    else:
        what = f"{found!r:.60}"
    return (
        f'{what}; a Reading is needed, as Reading(time.monotonic(), {{"joints": positions}}), or '
        "None where nothing was measured yet"
    )


class Watched(Protocol):
    """What Monitor needs of the control loop."""

    supervisor: Supervisor
    clock: Clock

    @property
    def doing(self) -> tuple[str, float] | None:
        """(name, when it began) of the part of the slot in progress; None while it sleeps."""
        ...

    def fault(self, reason: str) -> None: ...


class Monitor:
    """While entered, a part of a control slot that takes longer than call_timeout is a fault.

    Whatever blocks: the robot's code, inference's, a recorder's, a merger's. So is a computer that
    was suspended. It looks every MONITOR_SECONDS, in a thread of its own; the clock must be real.
    """

    def __init__(self, loop: Watched) -> None:
        self._loop = loop
        self._over = threading.Event()
        self._suspended = suspended()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="dipole-monitor")

    def __enter__(self) -> "Monitor":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(MONITOR_SECONDS):
            if reason := self._overdue():
                self._loop.fault(reason)
                return

    def _overdue(self) -> str:
        """Which part takes too long, "" if none does."""
        if (slept := suspended() - self._suspended) > SUSPENDED_SECONDS:
            return f"the computer was suspended for {slept:.1f} s"
        call, doing = self._loop.supervisor.call, self._loop.doing
        now, most = self._loop.clock.now(), self._loop.supervisor.call_timeout
        if problem := _overdue(call, now, most):
            return problem
        if doing is not None and (took := now - doing[1]) > most:
            return f"the control loop's {doing[0]} has lasted {took:.2f} s (call_timeout)"
        return ""
