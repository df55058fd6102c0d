"""The control loop: a robot, a policy computed elsewhere, a clock, and nothing that waits.

    slot      0   1   2   3   4   5   6        every 1/control_hz, on absolute deadlines
    action    a               b                every 1/policy_hz: observe, receive, ask, filter
    command   a1  a2  a3  a4  b1  b2  b3       every slot: one step from the last one to the next

A slot that is missed is counted and skipped. Where there is no valid action the robot holds, from
the slot on in which the action is missing.
"""

import math
import threading
from collections.abc import Callable

import numpy as np

from dipole.data.errors import DipoleError
from dipole.deploy.chunks.interpolation import Ramp
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.clock import Clock, RealClock
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.receding_horizon import RecedingHorizon
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.states import State, StateError, StateMachine, Transition
from dipole.deploy.recording.recorder import NoRecorder, Recorder
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.supervisor import Supervisor
from dipole.deploy.types import Arrays, Floats


class ControlLoop:
    """Moves a robot by a policy: prepare, arm, run, close.

    log: called with a line for each change of state and each refused chunk; heartbeat: called in
    every slot; a DipoleError of it is a fault; recorder: keeps what happened (recorder.py). None of
    them may wait.

        loop = ControlLoop(robot, inference, LoopConfig())
        loop.prepare()              # connect, look, warm up; nothing moves
        loop.arm()                  # a person's decision
        report = loop.run(60.0)     # seconds; always ends with the robot's stop()
        loop.close()

    Raises ConfigError where robot and policy do not fit, or the robot has no limits.
    """

    def __init__(
        self,
        robot: Robot,
        inference: Inference,
        config: LoopConfig | None = None,
        *,
        clock: Clock | None = None,
        log: Callable[[str], None] = print,
        heartbeat: Callable[[], None] = lambda: None,
        recorder: Recorder | None = None,
    ) -> None:
        self.config = config = (config or LoopConfig()).resolved(inference.spec)
        self.clock: Clock = clock or RealClock()
        self.guard = Supervisor(robot, self.clock, config.call_timeout, config.stop_timeout)
        self.report = Report(self.clock, config.control_hz)
        self.recorder = recorder or NoRecorder()
        self.states = StateMachine(self.clock.now, self._note)
        inference = self.recorder.listen(inference)
        self._inference = inference
        self._log, self.heartbeat = log, heartbeat
        self._over = threading.Event()
        self._executor = RecedingHorizon(robot.spec, inference, config, self.report, log)
        self._ramp = Ramp(robot.spec.action, config.steps, config.interpolation)
        self._last: Floats = np.zeros(robot.spec.action.size)  # what was commanded last
        self._held_since = 0.0
        self._clamps_in_a_row = 0
        self._stop_asked: str | None = None

    # What a person does -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Connect, look, and have chunks computed, with the robot still: IDLE to WARMUP.

        Raises RobotFault or InferenceDied, and StateError where no observation comes.
        """
        self.states.to(State.WARMUP, "connecting")
        try:
            self.guard.connect()
            self._inference.warm_up(self._await_observation(), self.config.warmup_calls)
        except (DipoleError, KeyboardInterrupt) as error:
            self._end(State.FAULT, str(error) or "interrupted")
            raise

    def arm(self) -> None:
        """Allow motion: WARMUP to ARMED. It begins with `run`."""
        self.states.to(State.ARMED, "armed")

    def run(self, seconds: float | None = None) -> Report:
        """Move until `seconds` have passed, somebody asks to stop, or a fault; returns the report.

        The robot's stop() is called in every case. Raises StateError where it is not armed.
        """
        if self.states.state is not State.ARMED:
            raise StateError(f"the loop is {self.states.state}: arm it first")
        self._executor.reset()
        started = self.clock.now()
        try:
            self._slots(started, math.inf if seconds is None else started + seconds)
        except DipoleError as error:  # of the robot, of inference, or of the watchdog
            self._end(State.FAULT, str(error))
        except BaseException as error:
            self._end(State.FAULT, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.report.seconds = self.clock.now() - started
            for reason, count in self._executor.observations.refused.items():
                self.report.counts[f"readings_{reason}"] = count
        return self.report

    def request_stop(self, reason: str) -> None:
        """Have the loop stop at its next slot; from any thread or signal handler."""
        self._stop_asked = self._stop_asked or reason

    def stop(self, timeout: float = 2.0) -> bool:
        """Stop from another thread, and wait. True only where the robot's stop() has returned."""
        self.request_stop("stop() was called")
        return self.wait(timeout) and bool(self.report.stopped)

    def wait(self, timeout: float) -> bool:
        """Whether the loop has ended, after at most `timeout` seconds; from any thread."""
        return self._over.wait(timeout)

    def fault(self, reason: str) -> None:
        """End with a fault, now: for whoever notices that the loop's own thread is stuck."""
        self._end(State.FAULT, reason)

    def reset(self) -> None:
        """Begin again after STOPPED or FAULT; chunks from before are discarded."""
        self.states.reset()
        self.guard.close()
        self._executor.reset()
        self._over.clear()
        self._stop_asked = None

    def close(self) -> None:
        """End inference and connection; stops first where the loop has not ended."""
        if self.states.state not in (State.IDLE, State.STOPPED, State.FAULT):
            self._end(State.STOPPED, "closed")
        self._inference.close()
        self.guard.close()

    # Slots --------------------------------------------------------------------------------------

    def _slots(self, started: float, until: float) -> None:
        slot, period = 0, self.config.period
        action_slot = -1
        while not self.states.ended:
            due = started + slot * period
            self.clock.sleep_until(due)
            now = self.clock.now()
            missed = max(0, math.floor((now - due) / period + 1e-6))
            ends = self._asked_to_end(now, until)
            if missed or not ends:  # a long sleep past the end is told as well
                self._count_slot(now - due, missed)
            if ends:
                return
            slot += missed
            if slot // self.config.steps > action_slot:
                action_slot = slot // self.config.steps
                self._act()
            if not self.states.ended:
                self._command()
            self.heartbeat()
            slot += 1

    def _asked_to_end(self, now: float, until: float) -> bool:
        if self._stop_asked:
            self._end(State.STOPPED, self._stop_asked)
        elif now >= until - 1e-9:
            self._end(State.STOPPED, "the time is up")
        return self.states.ended

    def _count_slot(self, lateness: float, missed: int) -> None:
        self.report.counts["slots"] += 1
        self.report.counts["missed_slots"] += missed
        self.report.counts["late_slots"] += lateness > self.config.late
        self.report.sample("lateness", lateness)

    def _act(self) -> None:
        """Once per action: look, and have the pilot decide what to do until the next."""
        with self.report.section("observe"):
            reading = self.guard.observe()
        with self.report.section("plan"):
            now = self.clock.now()
            last = self._last if self.states.state is State.RUN else None
            decision = self._executor.decide(reading, now, last)
        self.recorder.act(now, reading, last, decision)
        if decision.action is None or decision.start is None:
            self._hold(decision.hold)
            return
        self._clamps_in_a_row = self._clamps_in_a_row + 1 if decision.clamps else 0
        if self._clamps_in_a_row >= self.config.max_clamps:
            limits = ", ".join(decision.clamps)
            self._end(State.STOPPED, f"{self._clamps_in_a_row} clamped actions in a row ({limits})")
            return
        self.states.to(State.RUN, "actions are valid")
        self._ramp.aim(decision.start, decision.action)

    def _command(self) -> None:
        with self.report.section("command"):
            if self.states.state is not State.RUN:
                self.guard.hold()
                return
            command = self._ramp.next()
            self.guard.command(command)
            self._last = command
            self.recorder.command(self.clock.now(), command)

    def _hold(self, reason: str) -> None:
        now = self.clock.now()
        if self.states.state is not State.HOLD:
            self.report.counts["holds"] += 1
            self.report.paused()
            self._clamps_in_a_row = 0
            self._held_since = now
            self.states.to(State.HOLD, reason)
        longest = self.config.max_hold
        if longest is not None and now - self._held_since > longest:
            self._end(State.STOPPED, f"held for {longest:g} s: {reason}")

    # Ends ---------------------------------------------------------------------------------------

    def _end(self, state: State, reason: str) -> None:
        """Stop the robot, once, and say whether it did."""
        if self.states.ended:
            return
        self.states.to(state, reason)
        self.report.stopped = self.guard.stop()
        if not self.report.stopped:
            self._log(f"the robot's stop() did not succeed: {self.guard.stop_problem}")
        self._over.set()

    def _await_observation(self, seconds: float = 5.0) -> Arrays:
        deadline = self.clock.now() + seconds
        while (seen := self._executor.first_look(self.guard.observe(), self.clock.now())) is None:
            if self.clock.now() >= deadline:
                problems = ", ".join(self._executor.observations.refused) or "the robot gave none"
                raise StateError(f"no usable observation within {seconds:g} s: {problems}")
            self.clock.sleep_until(self.clock.now() + self.config.period)
        return seen

    def _note(self, transition: Transition) -> None:
        self.report.transitions.append(transition)
        self.recorder.state(transition)
        self._log(f"{transition.state}: {transition.reason}")
