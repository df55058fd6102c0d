"""The control loop: a robot, a policy computed elsewhere, a clock, and nothing that waits.

    slot      0   1   2   3   4   5   6        every 1/control_hz, on absolute deadlines
    action    a               b                every 1/policy_hz: observe, receive, ask, decide
    command   c1  c2  c3  c4  c5  c6  c7       every slot: the reference, filtered

A slot that is missed is counted and skipped. Where there is no valid action the robot brakes and
stays, from the slot on in which the action is missing. Whatever ends a run: a braking ramp, then
the robot's stop().
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.chunks.action_queue import ChunkQueue
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.clock import Clock, RealClock
from dipole.deploy.loop.command_sender import CommandSender
from dipole.deploy.loop.config import LoopConfig, is_positive
from dipole.deploy.loop.log import LOGGER
from dipole.deploy.loop.preparation import first_observation, warm_up
from dipole.deploy.loop.receding_horizon import RecedingHorizon
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.states import Ending, State, StateError, StateMachine, Transition
from dipole.deploy.recording.recorder import NoRecorder, Recorder, Unfailing
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.signals import stop_signals
from dipole.deploy.safety.supervisor import Monitor, RobotFault, Supervisor
from dipole.deploy.safety.times import check_braking
from dipole.deploy.safety.watchdog import WatchdogFired


class ControlLoop:
    """Moves a robot by a policy: prepare, arm, run, close.

    log: called with a line for each change of state and each refused chunk; heartbeat: called in
    every slot before its command; a DipoleError of it is a fault; recorder: keeps what happened
    (recorder.py). None of them may wait.
    doing: the part of a slot that the control thread is in, and since when; None while it sleeps.

        loop = ControlLoop(robot, inference, LoopConfig())
        loop.prepare()              # connect, look, warm up; nothing moves
        loop.arm()                  # a person's decision
        report = loop.run(60.0)     # seconds; always ends with the robot at rest, and its stop()
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
        log: Callable[[str], None] = LOGGER.info,
        heartbeat: Callable[[], None] = lambda: None,
        recorder: Recorder | None = None,
    ) -> None:
        self.config = config = (config or LoopConfig()).resolved(inference.spec)
        check_braking(config, robot.spec.action)
        self.clock: Clock = clock or RealClock()
        self.recorder = Unfailing(recorder or NoRecorder())
        self.states = StateMachine(self.clock.now, self._note)
        self.doing: tuple[str, float] | None = None
        self.supervisor: Supervisor
        self._robot, self._given_log, self.heartbeat = robot, log, heartbeat
        self._inference = self.recorder.listen(inference)
        self._over = threading.Event()
        self._generation = 0
        self._thread: int | None = None  # which runs it; one of a run before may still be stuck
        self._held_since: float | None = None
        self._hold_reason = ""
        self._stop_asked: str | None = None
        self._running = False
        self._renew(None)

    # What a person does -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Connect, look, and have chunks computed, with the robot still: IDLE to WARMUP.

        Raises RobotFault or InferenceDied, StateError where no observation comes, OutsideLimits
        where the robot stands outside its limits, RefusedAction for a chunk that makes no sense.
        """
        self.states.to(State.WARMUP, "connecting")
        try:
            self.supervisor.connect()
            seen = first_observation(
                self._executor, self.supervisor, self.clock, self.config.period
            )
            self._sender.start(self._executor.measured())  # refuses what no command could mend
            if warning := warm_up(self._inference, self._executor, seen, self.config):
                self.report.notes.append(warning)
                self._say(warning)
            self._executor.check_warmed_up(self._inference.warmed_up)
        except BaseException as error:  # whatever it is, the robot is told to stop
            reason = str(error) if isinstance(error, DipoleError) else repr(error)
            self._finish(Ending(State.FAULT, reason, brake=False))
            raise

    def arm(self) -> None:
        """Allow motion: WARMUP to ARMED. It begins with `run`."""
        self.states.to(State.ARMED, "armed")

    def run(self, seconds: float | None = None) -> Report:
        """Move until `seconds` have passed, somebody asks to stop, or a fault; returns the report.

        The robot is braked and its stop() called in every case; a part of a slot that takes longer
        than call_timeout is a fault, seen from another thread. Raises StateError where it is not
        armed, ConfigError for a time that is none.
        """
        if seconds is not None and not is_positive(seconds):
            raise ConfigError(f"run({seconds!r}): seconds must be a positive number, or None")
        if self.states.state is not State.ARMED:
            raise StateError(f"the loop is {self.states.state}: arm it first")
        if not isinstance(self.clock, RealClock):
            return self._run(seconds)
        with stop_signals(self.request_stop), Monitor(self):
            return self._run(seconds)

    def _run(self, seconds: float | None) -> Report:
        self._executor.reset()
        self._motion.reset()
        generation, report = self._generation, self.report
        self._thread = threading.get_ident()
        self._running = True
        started = self.clock.now()
        raised: BaseException | None = None
        try:
            ending = self._slots(started, math.inf if seconds is None else started + seconds)
        except RobotFault as error:
            ending = Ending(State.FAULT, str(error), brake=error.call == "observe")
        except WatchdogFired as error:
            ending = Ending(State.FAULT, str(error), brake=False)
        except DipoleError as error:  # of inference, or of the limits
            ending = Ending(State.FAULT, str(error))
        except BaseException as error:
            ending, raised = Ending(State.FAULT, f"{type(error).__name__}: {error}"), error
        if generation == self._generation:  # else somebody reset a loop whose thread was stuck
            self._finish(ending)
            report.seconds = self.clock.now() - started
            for reason, count in self._executor.observations.refused.items():
                report.counts[f"readings_{reason}"] = count
            if failed := self.recorder.failed:
                report.notes.append(f"the recorder raised {failed} times: records are missing")
            self.doing, self._running = None, False
        if raised is not None:
            raise raised
        return report

    def request_stop(self, reason: str) -> None:
        """Have the loop stop at its next slot; from any thread or signal handler."""
        self._stop_asked = self._stop_asked or reason

    def stop(self, timeout: float | None = None) -> bool:
        """Stop from another thread, and wait. True only where the robot's stop() has returned.

        timeout: seconds; None: as long as a braking ramp and the robot's stop() may take.
        """
        self.request_stop("stop() was called")
        longest = self.stopping_seconds if timeout is None else timeout
        return self.wait(longest) and bool(self.report.stopped)

    @property
    def stopping_seconds(self) -> float:
        """How long it takes at most from a request to stop until the robot's stop() has returned:
        a braking ramp, calls that are under way, and stop_timeout."""
        config = self.config
        return self._motion.stopping_seconds + 2 * config.call_timeout + config.stop_timeout

    def wait(self, timeout: float) -> bool:
        """Whether the loop has ended, after at most `timeout` seconds; from any thread."""
        return self._over.wait(timeout)

    def fault(self, reason: str) -> None:
        """End with a fault, now, without a ramp: for whoever sees that the loop's own thread is
        stuck."""
        self._finish(Ending(State.FAULT, reason, brake=False))

    def reset(
        self, inference: Inference | None = None, heartbeat: Callable[[], None] | None = None
    ) -> None:
        """Begin again after STOPPED or FAULT, with a new report; chunks from before are discarded.

        inference, heartbeat: in the place of ones that have died. Raises StateError while a
        command, a stop or a close has not returned: awake again, it would act in the next run.
        """
        if self.states.ended and not self.supervisor.stuck:
            self.supervisor.close()
        if stuck := self.supervisor.stuck:
            raise StateError(f"the robot's {stuck}() has still not returned: end this program")
        self.states.reset()
        self._generation += 1
        self._thread = None
        if inference is not None:
            self._inference.close()
            self._inference = self.recorder.listen(inference)
        if heartbeat is not None:
            self.heartbeat = heartbeat
        self._renew(self._executor.queue)

    def close(self) -> None:
        """End inference and connection, and note how; stops first where the loop has not ended."""
        if self._running:
            self.request_stop("closed")
            self.wait(self.stopping_seconds)
        if self.states.state not in (State.IDLE, State.STOPPED, State.FAULT):
            self._finish(Ending(State.STOPPED, "closed", brake=False))
        self._inference.close()
        self.report.close_problem = self.supervisor.close()

    # Slots --------------------------------------------------------------------------------------

    def _slots(self, started: float, until: float) -> Ending:
        slot, period = 0, self.config.period
        action_slot, generation = -1, self._generation
        while not self._is_over(generation):
            due = started + slot * period
            self.doing = None
            self.clock.sleep_until(due)
            now = self.clock.now()
            missed = max(0, math.floor((now - due) / period + 1e-6))
            ending = self._asked_to_end(now, until)
            if missed or ending is None:  # a long sleep past the end is told as well
                self._count_slot(now - due, missed)
            if ending is not None:
                return ending
            slot += missed
            if slot // self.config.steps > action_slot:
                action_slot = slot // self.config.steps
                self._act()
                if reason := self._sender.limited_too_long():
                    return Ending(State.STOPPED, reason)
            self._beat()
            self._command()
            slot += 1
        return Ending(self.states.state, self.states.reason, brake=False)

    def _is_over(self, generation: int) -> bool:
        """Whether another thread has ended this run, or begun another."""
        return self.states.ended or generation != self._generation

    def _asked_to_end(self, now: float, until: float) -> Ending | None:
        if self._stop_asked:
            return Ending(State.STOPPED, self._stop_asked, as_asked=True)
        if now >= until - 1e-9:
            return Ending(State.STOPPED, "the time is up", as_asked=True)
        longest, since = self.config.max_hold, self._held_since
        if longest is not None and since is not None and now - since > longest:
            return Ending(State.STOPPED, f"held for {longest:g} s: {self._hold_reason}")
        return None

    def _count_slot(self, lateness: float, missed: int) -> None:
        self.report.counts["slots"] += 1
        self.report.counts["missed_slots"] += missed
        self.report.counts["late_slots"] += lateness > self.config.late
        self.report.sample("lateness", lateness)

    def _act(self) -> None:
        """Once per action: look, and decide what to do until the next."""
        with self._part("observe"):
            reading = self.supervisor.observe()
        with self._part("plan"):
            now = self.clock.now()
            decision = self._executor.decide(reading, now)
        with self._part("record"):
            self.recorder.act(now, reading, decision)
        if decision.measured is not None:
            self._sender.seen(decision.measured)
        if decision.action is None:
            self._hold(decision.hold)
            return
        self._held_since = None
        self.states.to(State.RUN, "actions are valid")
        self._motion.follow(decision.action, decision.following)

    def _hold(self, reason: str) -> None:
        self._motion.hold()
        self._hold_reason = reason
        if self._held_since is None:
            self._held_since = self.clock.now()
            self.report.counts["holds"] += 1
            self.report.paused()
            self.states.to(State.HOLD, reason)

    def _beat(self) -> None:
        with self._part("heartbeat"):
            self.heartbeat()

    def _command(self) -> bool:
        with self._part("command"):
            return self._sender.send()

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Time a part of a slot, and let others see which it is."""
        self.doing = (name, self.clock.now())
        with self.report.section(name):
            yield
        self.doing = ("slot", self.clock.now())
        if threading.get_ident() != self._thread:
            raise StateError(f"the loop was reset while its {name} was stuck")

    # Ends ---------------------------------------------------------------------------------------

    def _finish(self, ending: Ending) -> None:
        """Bring the robot to rest, have it stop, once, and say whether it did."""
        if self.states.ended:
            return
        supervisor, report = self.supervisor, self.report
        try:
            if ending.brake:
                self._brake(ending.reason)
        finally:  # whatever happens on the way: a second Ctrl-C, a log that raises or blocks
            transition = self.states.change(ending.state, ending.reason)
            try:
                report.stopped = supervisor.stop()
            finally:
                if transition is not None:
                    report.as_asked = ending.as_asked
                    self._keep(transition)
                self._over.set()
        if transition is not None:
            self._say(f"{transition.state}: {transition.reason}")
        if not report.stopped:
            self._say(f"the robot's stop() did not succeed: {supervisor.stop_problem}")

    def _brake(self, reason: str) -> None:
        """A braking ramp, slot by slot; where it fails, the robot's stop() follows all the same."""
        self._motion.hold()
        if self._motion.at_rest:
            return
        self.states.to(State.STOPPING, reason)
        started, period = self.clock.now(), self.config.period
        left = math.ceil(self._motion.stopping_seconds / period) + 1  # commands; it needs fewer
        try:
            while not self._motion.at_rest and left > 0 and not self.states.ended:
                self._beat_while_braking()
                left -= self._command()
                self.doing = None
                slot = math.floor((self.clock.now() - started) / period + 1e-6) + 1
                self.clock.sleep_until(started + slot * period)
        except Exception as error:
            self.report.notes.append(f"braking was cut short: {error}")

    def _beat_while_braking(self) -> None:
        """Only a watchdog that has stopped the robot ends the ramp; no other defect does."""
        try:
            self._beat()
        except WatchdogFired:
            raise
        except Exception as error:
            self.report.counts["heartbeats_failed"] += 1
            if self.report.counts["heartbeats_failed"] == 1:
                self.report.notes.append(f"the heartbeat failed while braking: {error}")

    # Runs ---------------------------------------------------------------------------------------

    def _renew(self, after: ChunkQueue | None) -> None:
        """What belongs to one run: a thread that is stuck in an earlier one finds its own."""
        config = self.config
        stopping = self.supervisor.stopping if after is not None else None
        self.supervisor = Supervisor(
            self._robot, self.clock, config.call_timeout, config.stop_timeout
        )
        if stopping is not None:  # who is told when the robot's stop() begins: the watchdog
            self.supervisor.stopping = stopping
        self.report = Report(self.clock, config.control_hz)
        self._executor = RecedingHorizon(
            self._robot.spec, self._inference, config, self.report, self._say, after
        )
        self._sender = CommandSender(
            self._robot.spec, config, self.clock, self.supervisor, self.recorder, self.report
        )
        self._motion = self._sender.motion
        self._held_since, self._stop_asked, self._running = None, None, False
        self._over.clear()

    def _note(self, transition: Transition) -> None:
        self._keep(transition)
        self._say(f"{transition.state}: {transition.reason}")

    def _keep(self, transition: Transition) -> None:
        self.report.transitions.append(transition)
        self.recorder.state(transition)

    def _say(self, line: str) -> None:
        """Log a line; a log that raises ends no run."""
        try:
            self._given_log(line)
        except Exception:
            self.report.counts["lines_not_logged"] += 1
