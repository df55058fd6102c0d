"""Calls of the robot's own code, which may raise, block, or take too long: each is a fault."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from dipole.data.errors import DipoleError
from dipole.deploy.loop.clock import Clock
from dipole.deploy.robots.robot import Reading, Robot
from dipole.deploy.types import Floats


class RobotFault(DipoleError):  # noqa: N818  it is what happened
    """The robot's own code raised, or took too long."""


class Supervisor:
    """A robot whose every call is timed, and which is told to stop once.

    call: (name, when it began) while a call is in progress, for whoever watches from outside.
    """

    def __init__(
        self, robot: Robot, clock: Clock, call_timeout: float, stop_timeout: float
    ) -> None:
        self.call: tuple[str, float] | None = None
        self.stop_problem = ""
        self.call_timeout = call_timeout
        self._robot = robot
        self._clock = clock
        self._stop_timeout = stop_timeout
        self._stopping = threading.Lock()
        self._stopped: bool | None = None
        self._connected = False
        self._ending = False

    def connect(self) -> None:
        """It may take its time: nothing moves yet."""
        with self._reported("connect"):
            self._robot.connect()
        self._connected, self._ending, self._stopped = True, False, None

    def observe(self) -> Reading | None:
        with self._timed("observe"):
            return self._robot.observe()

    def command(self, action: Floats) -> bool:
        """Whether it was sent: nothing is any more once stop() was asked for."""
        if self._ending:
            return False
        with self._timed("command"):
            self._robot.command(action)
        return True

    def hold(self) -> None:
        if not self._ending:
            with self._timed("hold"):
                self._robot.hold()

    def stop(self) -> bool:
        """One attempt, in a thread of its own, because it may block; whether it returned in time.

        Whoever asks again is told what came of the first attempt.
        """
        self._ending = True
        with self._stopping:
            if self._stopped is None:
                self._stopped = self._connected and self._attempt(self._robot.stop)
                if not self._connected:
                    self.stop_problem = "the robot was not connected"
            return self._stopped

    def close(self) -> None:
        """Close the connection, once; what goes wrong then is of no consequence."""
        if self._connected:
            self._connected = False
            self._attempt(self._robot.close)

    def _attempt(self, call: Callable[[], None]) -> bool:
        problem = [f"it did not return within {self._stop_timeout:g} s"]

        def attempt() -> None:
            try:
                call()
                problem[0] = ""
            except Exception as error:
                problem[0] = f"{type(error).__name__}: {error}"

        thread = threading.Thread(target=attempt, daemon=True, name="dipole-stop")
        thread.start()
        thread.join(self._stop_timeout)
        self.stop_problem = problem[0]
        return not self.stop_problem

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
            raise RobotFault(f"the robot's {name}() took {took:.3f} s (call_timeout)")

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise RobotFault(
                f"the robot's {name}() raised {type(error).__name__}: {error}"
            ) from error
