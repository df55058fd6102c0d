"""One run from beginning to end: load, arm, move, report. What `dipole deploy` does, for programs.

from dipole.deploy.loop.run import RunConfig, run_policy

report = run_policy(MyArm(), lambda: RemoteInference("ws://gpu:8000"), RunConfig(seconds=30.0))
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dipole.data.core.errors import ConfigError
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.arming import asked_to_arm, interrupting_signals
from dipole.deploy.loop.config import LoopConfig, is_positive
from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.log import LOGGER, printed_log
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.report_file import (
    refusal_reported,
    task_result,
    tell,
    write_report,
)
from dipole.deploy.loop.states import State
from dipole.deploy.loop.watched import run_in_thread
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.robots.dry_run import DryRun
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.signals import stop_signals
from dipole.deploy.safety.times import check_times
from dipole.deploy.safety.watchdog import Watchdog


@dataclass(frozen=True)
class RunConfig:
    """One run of a robot.

    seconds: Of motion; None until a signal asks to stop.
    arm: "ask" a person, or "now".
    dry_run: Send nothing.
    watchdog: Seconds without a heartbeat after which another process stops the robot; None for no
        watchdog.
    output: Where flight.rec and report.json go.
    record: Whether to keep flight.rec.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    seconds: float | None = None
    arm: str = "ask"
    dry_run: bool = False
    watchdog: float | None = 0.5
    output: Path | None = None
    record: bool = True

    def __post_init__(self) -> None:
        if self.arm not in ("ask", "now"):
            raise ConfigError(f"arm={self.arm}: ask, or now")
        for name in ("dry_run", "record"):
            if not isinstance(getattr(self, name), bool):  # "no", or nothing, would count as one
                raise ConfigError(f"{name}={getattr(self, name)!r}; it must be true or false")
        for name in ("seconds", "watchdog"):
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ConfigError(f"{name}={value!r}; it must be a positive number, or null")
        if not isinstance(self.loop, LoopConfig):
            raise ConfigError(f"loop={self.loop!r}; it must be a LoopConfig")
        if not isinstance(self.output, str | Path | None):
            raise ConfigError(f"output={self.output!r}; it must be a folder's path, or null")
        if self.output is not None:
            object.__setattr__(self, "output", Path(self.output))


def run_policy(
    robot: Robot, make_inference: Callable[[], Inference], config: RunConfig
) -> Report | None:
    """Move a robot by a policy, and say how it went; None where nobody armed it.

    make_inference: called once a person can be told that it takes time; it is closed at the end.
    Raises the DipoleErrors of whatever could not begin, and leaves the reason in report.json. What
    else is raised, by a defect or a second Ctrl-C, is raised after the report was written.
    """
    with refusal_reported(config.output):
        return _run_policy(robot, make_inference, config)


def _run_policy(
    robot: Robot, make_inference: Callable[[], Inference], config: RunConfig
) -> Report | None:
    # What is entered first ends last: the log and the signals outlive the robot's motion.
    with printed_log() as log, ExitStack() as signals, _recorder(robot, config) as recorder:
        signals.enter_context(interrupting_signals())
        with _said_if_interrupted(), refusal_reported(config.output, BaseException):
            LOGGER.info("loading the policy")
            inference = make_inference()
            driven = DryRun(robot) if config.dry_run else robot
            loop = _loop(driven, inference, config, recorder)
        try:
            with _said_if_interrupted(), refusal_reported(config.output, BaseException):
                loop.prepare()
                if not (config.arm == "now" or config.dry_run or asked_to_arm(log)):
                    LOGGER.info("not armed: nothing was moved")
                    return None
                signals.enter_context(stop_signals(loop.request_stop))
            try:
                return _move(loop, robot, config)
            finally:
                if _was_armed(loop):
                    loop.fault("interrupted")  # unless it has ended
                    task = _conclude(loop.report, driven, inference, recorder, config.output)
                    loop.close()
                    write_report(loop.report, task, config.output)  # how the robot was closed
        finally:
            loop.close()


def _loop(
    robot: Robot, inference: Inference, config: RunConfig, recorder: FlightRecorder | None
) -> ControlLoop:
    """Closes the inference where the loop cannot be made."""
    try:
        _say_rates(config.loop, inference)
        loop = ControlLoop(robot, inference, config.loop, log=LOGGER.info, recorder=recorder)
        loop.report.dry_run = config.dry_run
        check_times(loop.config, None if config.dry_run else config.watchdog)
    except BaseException:
        inference.close()
        raise
    return loop


def _was_armed(loop: ControlLoop) -> bool:
    return any(transition.state is State.ARMED for transition in loop.report.transitions)


def _conclude(
    report: Report,
    robot: Robot,
    inference: Inference,
    recorder: FlightRecorder | None,
    output: Path | None,
) -> dict[str, float]:
    """Say how a run ended, however it did, while the robot is still connected; and the task."""
    if not report.counts["actions"] and report.transitions[-1].state is State.STOPPED:
        report.notes.append("nothing moved: the policy gave no action that could be used in time")
    task = task_result(robot, report.notes)
    report.notes += inference.notes
    if recorder is not None:
        recorder.outcome(task)
        recorder.close()
        report.notes += recorder.problems
    tell(report, task, output)
    return task


@contextmanager
def _said_if_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        by = f" by {error}" if str(error) else ""
        LOGGER.info(f"interrupted{by} before the robot was armed: nothing was moved")
        raise


def ended_well(report: Report | None) -> bool:
    """Whether the robot moved, was stopped when that was asked for and not before, and closed."""
    return (
        report is not None
        and bool(report.stopped)
        and report.as_asked
        and not report.close_problem
        and report.counts["actions"] > 0
    )


def _move(loop: ControlLoop, robot: Robot, config: RunConfig) -> Report:
    """Arm and run. The watchdog watches until the robot was stopped, by whomever."""
    watchdog = _watchdog(robot, config)
    if watchdog is None:
        loop.arm()
        return run_in_thread(loop, config.seconds)
    try:
        loop.heartbeat, loop.supervisor.stopping = watchdog.beat, watchdog.stopping
        loop.arm()
        return run_in_thread(loop, config.seconds)
    finally:
        loop.fault("interrupted")  # unless it has ended
        _disarm(watchdog, loop.supervisor.stop(), loop.report.notes)


def _disarm(watchdog: Watchdog, stopped: bool, notes: list[str]) -> None:
    """End the watchdog, of a robot that was stopped; one that was not, it has to stop first."""
    if not stopped:
        watchdog.stop_robot()
    watchdog.close()
    if watchdog.fired:
        said = "returned" if watchdog.stopped else "FAILED: use the hardware's emergency stop"
        notes.append(f"the watchdog stopped the robot: its stopper() {said}")


def _watchdog(robot: Robot, config: RunConfig) -> Watchdog | None:
    if config.watchdog is None or config.dry_run:
        return None
    stopper = robot.stopper()
    if stopper is None:
        LOGGER.info("no watchdog: this robot has no stopper()")
        return None
    return Watchdog(stopper, config.watchdog)


@contextmanager
def _recorder(robot: Robot, config: RunConfig) -> Iterator[FlightRecorder | None]:
    """Keeps the run in output/flight.rec, where that is asked for."""
    if not config.record or config.output is None:
        yield None
        return
    config.output.mkdir(parents=True, exist_ok=True)
    path = config.output / "flight.rec"
    try:
        recorder = FlightRecorder(path, robot.spec, config.loop, dry_run=config.dry_run)
    except FileExistsError:
        raise ConfigError(
            f"{path}: exists already, and recordings are never overwritten: give another output"
        ) from None
    try:
        yield recorder
    finally:
        recorder.close()
        if not recorder.armed:  # of no run; it would be in the way of the next attempt
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _say_rates(loop: LoopConfig, inference: Inference) -> None:
    with contextlib.suppress(ConfigError):  # the loop refuses it, and says why
        rates = loop.resolved(inference.spec)
        fps = inference.spec.fps
        trained = "not known" if fps is None else f"{fps:g} Hz"
        LOGGER.info(
            f"actions at {rates.policy_hz:g} Hz (demonstrations: {trained}), "
            f"commands at {rates.control_hz:g} Hz"
        )
