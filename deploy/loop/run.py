"""One run from beginning to end: load, arm, move, report. What `dipole deploy` does, for programs.

from dipole.deploy.loop.run import RunConfig, run_policy

report = run_policy(MyArm(), lambda: RemoteInference("ws://gpu:8000"), RunConfig(seconds=30.0))
"""

import contextlib
import json
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dipole.data.errors import ConfigError, DipoleError
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.states import State
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.robots.dry_run import DryRun
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.watchdog import Watchdog

REPORT = "report.json"
NOT_CERTIFIED = (
    "This is no certified emergency stop: keep the hardware's within reach, and the controller's "
    "own limits set."
)


@dataclass(frozen=True)
class RunConfig:
    """seconds: of motion, None until Ctrl-C; arm: "ask" a person, or "now"; dry_run: send nothing;
    watchdog: seconds without a heartbeat after which another process stops the robot, None for
    none; output: where flight.rec and report.json go; record: whether to keep flight.rec."""

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


def run_policy(
    robot: Robot, make_inference: Callable[[], Inference], config: RunConfig
) -> Report | None:
    """Move a robot by a policy, and say how it went; None where nobody armed it.

    make_inference: called once a person can be told that it takes time; it is closed at the end.
    Raises the DipoleErrors of whatever could not begin, and leaves the reason in report.json.
    """
    with refusal_reported(config.output):
        return _run_policy(robot, make_inference, config)


@contextmanager
def refusal_reported(output: Path | None) -> Iterator[None]:
    """Leaves {"state": "REFUSED", "reason": ...} in output/report.json where a run cannot begin.

    The report of a run that is there already stays.
    """
    try:
        yield
    except DipoleError as error:
        if output is not None and not _is_of_a_run(output / REPORT):
            output.mkdir(parents=True, exist_ok=True)
            refusal = {"state": "REFUSED", "reason": str(error)}
            (output / REPORT).write_text(json.dumps(refusal, indent=1) + "\n")
        raise


def _is_of_a_run(path: Path) -> bool:
    try:
        return path.exists() and json.loads(path.read_text()).get("state") != "REFUSED"
    except (OSError, ValueError, AttributeError):
        return True


def _run_policy(
    robot: Robot, make_inference: Callable[[], Inference], config: RunConfig
) -> Report | None:
    with Printer() as printer, _recorder(robot, config) as recorder:
        driven = DryRun(robot, printer.say) if config.dry_run else robot
        printer.say("loading the policy")
        inference = make_inference()
        _say_rates(printer, config.loop, inference)
        report = _run(robot, driven, inference, config, printer, recorder)
        if report is None:
            printer.say("not armed: nothing was moved")
            return None
        printer.flush()
    _tell(report, robot)
    if config.output is not None:
        _write(report, robot, config.output)
    return report


def ended_well(report: Report | None) -> bool:
    """Whether the robot moved and was stopped without a fault."""
    return (
        report is not None
        and bool(report.stopped)
        and report.transitions[-1].state is State.STOPPED
    )


def _run(
    robot: Robot,
    driven: Robot,
    inference: Inference,
    config: RunConfig,
    printer: "Printer",
    recorder: FlightRecorder | None,
) -> Report | None:
    loop = None
    watchdog = None
    try:
        loop = ControlLoop(driven, inference, config.loop, log=printer.say, recorder=recorder)
        loop.prepare()
        if not (config.arm == "now" or config.dry_run or _ask(printer)):
            return None
        watchdog = _watchdog(robot, config, printer)
        if watchdog is not None:
            loop.heartbeat = watchdog.beat
        loop.arm()
        report = run_watched(loop, config.seconds)
        if watchdog is not None and watchdog.fired:
            report.notes.append("the watchdog stopped the robot: the loop gave no heartbeat")
        report.notes += getattr(inference, "notes", [])
        return report
    finally:
        if watchdog is not None:
            watchdog.close()
        if loop is not None:
            loop.close()
        else:
            inference.close()


@contextmanager
def _recorder(robot: Robot, config: RunConfig) -> Iterator[FlightRecorder | None]:
    """Keeps the run in output/flight.rec, where that is asked for."""
    if not config.record or config.output is None:
        yield None
        return
    config.output.mkdir(parents=True, exist_ok=True)
    path = config.output / "flight.rec"
    if path.exists():
        raise ConfigError(f"{path}: exists already, and recordings are never overwritten")
    recorder = FlightRecorder(path, robot.spec, config.loop)
    try:
        yield recorder
    finally:
        recorder.close()
        if recorder.dropped:
            print(f"{path}: {recorder.dropped} records are missing (the disk was full or slow)")


def _watchdog(robot: Robot, config: RunConfig, printer: "Printer") -> Watchdog | None:
    if config.watchdog is None or config.dry_run:
        return None
    stopper = robot.stopper()
    if stopper is None:
        printer.say("no watchdog: this robot has no stopper()")
        return None
    return Watchdog(stopper, config.watchdog)


def _ask(printer: "Printer") -> bool:
    """Whether a person allows the robot to move."""
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to arm the robot: run it in a terminal, or give arm=now")
    printer.say(NOT_CERTIFIED)
    printer.flush()
    return input("Type ARM to let the robot move, anything else to end: ").strip() == "ARM"


def _say_rates(printer: "Printer", loop: LoopConfig, inference: Inference) -> None:
    with contextlib.suppress(ConfigError):  # the loop refuses it, and says why
        rates = loop.resolved(inference.spec)
        fps = inference.spec.fps
        trained = "not known" if fps is None else f"{fps:g} Hz"
        printer.say(
            f"actions at {rates.policy_hz:g} Hz (demonstrations: {trained}), "
            f"commands at {rates.control_hz:g} Hz"
        )


def _tell(report: Report, robot: Robot) -> None:
    """The report, after all that was said during the run."""
    print(f"\n{report}")
    for name, value in _result(robot).items():
        print(f"{name.replace('_', ' ')} {value:.3f}")


def _write(report: Report, robot: Robot, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    path = output / REPORT
    path.write_text(json.dumps(report.to_dict() | {"task": _result(robot)}, indent=1) + "\n")
    print(path)


def _result(robot: Robot) -> dict[str, float]:
    """How the task went, where a robot knows."""
    result: dict[str, float] = getattr(robot, "result", dict)()
    return result


class Printer:
    """Prints in a thread of its own: a terminal may block, the control loop may not."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._print, daemon=True, name="dipole-printer").start()

    def say(self, line: str) -> None:
        self._lines.put(line)

    def flush(self) -> None:
        """Wait until all that was said is printed."""
        done = threading.Event()
        self._lines.put(done)
        done.wait(2.0)

    def __enter__(self) -> "Printer":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def _print(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            else:
                print(line, flush=True)
