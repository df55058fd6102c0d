"""Sends one command a slot: the next of the motion, through the last gate, never two at once."""

import math

from dipole.deploy.loop.clock import Clock
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.loop.motion import Motion
from dipole.deploy.loop.report import Report
from dipole.deploy.recording.recorder import Recorder
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.safety.command_gate import CommandGate
from dipole.deploy.safety.deviation import Deviated, DeviationCheck
from dipole.deploy.safety.supervisor import Supervisor
from dipole.deploy.types import Floats

CLOSEST = 0.5  # of a period: commands are never sent closer together than that


class CommandSender:
    """The commands of one run; motion: what makes them."""

    def __init__(
        self,
        robot: RobotSpec,
        config: ResolvedLoopConfig,
        clock: Clock,
        supervisor: Supervisor,
        recorder: Recorder,
        report: Report,
    ) -> None:
        self.motion = Motion(robot, config)
        self._config, self._clock, self._supervisor = config, clock, supervisor
        self._recorder, self._report = recorder, report
        self._gate = CommandGate(robot.action, config.period)
        self._deviation = DeviationCheck(robot.action)
        self._commanded: Floats | None = None  # what was sent last
        self._last: float | None = None  # when the last command was sent
        self._not_before = -math.inf  # when the next one may be

    def start(self, measured: Floats) -> None:
        """The robot rests at `measured` [A]. Raises OutsideLimits."""
        self.motion.start(measured)
        self._gate.start(measured)

    def seen(self, measured: Floats) -> None:
        """The robot is measured at `measured` [A]: motion starts there, or it is compared with the
        last command. Raises OutsideLimits, Deviated."""
        if not self.motion.started:
            self.start(measured)
        if self._commanded is None:
            return
        found = self._deviation.compare(measured, self._commanded)
        self._report.deviated(found.largest)
        if found.problem:
            raise Deviated(found.problem)

    def send(self) -> bool:
        """Send the next command; whether it was sent. Raises RobotFault.

        After a slot that was late it waits, for less than half a period.
        """
        if not self.motion.started:
            self._supervisor.hold()
            return False
        period = self._config.period
        self._clock.sleep_until(self._not_before)
        now = self._clock.now()
        missed = self._missed(now)
        command = self._gate.check(self.motion.next(missed), self.motion.stands(missed))
        self._last, self._not_before = now, now + CLOSEST * period
        sent = self._supervisor.command(command.values)
        # Of a call that took long, the end counts: two commands never arrive at once.
        self._not_before = max(self._not_before, self._clock.now() + CLOSEST / 2 * period)
        if sent:
            self._commanded = command.values
            self._report.commanded(command)
            self._recorder.command(now, command, missed)
        return sent

    def _missed(self, now: float) -> int:
        """How many slots passed since the last command, whatever it was that took the time."""
        if self._last is None:
            return 0
        return max(0, math.floor((now - self._last) / self._config.period + 1e-6) - 1)

    def limited_too_long(self) -> str:
        """Why the robot has to be stopped, if commands could not follow for too long; else ""."""
        motion, config = self.motion, self._config
        longest = config.max_approach if motion.approaching else config.max_limited
        if longest is None or motion.limited_for <= longest:
            return ""
        what = "the first action was not reached" if motion.approaching else "limits were met"
        return f"{what} for {longest:g} s without a pause ({', '.join(self._gate.clamps)})"
