"""`dipole deploy`: move a robot by a trained policy, in real time, within limits, and report."""

import json
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipole.apps.compose import run
from dipole.data.errors import ConfigError
from dipole.deploy import ControlLoop, DryRun, LoopConfig, Robot, State
from dipole.deploy.from_checkpoint import FromCheckpoint
from dipole.deploy.inference import Inference
from dipole.deploy.process_inference import ProcessInference
from dipole.deploy.recorder import FlightRecorder
from dipole.deploy.report import Report
from dipole.deploy.robots import import_robots, make_robot
from dipole.deploy.session import run_watched
from dipole.deploy.thread_inference import ThreadInference
from dipole.deploy.watchdog import Watchdog

Config = dict[str, Any]
NOT_CERTIFIED = (
    "This is no certified emergency stop: keep the hardware's within reach, and the controller's "
    "own limits set."
)


def main(argv: list[str]) -> int:
    return run("deploy", argv, deploy)


def deploy(config: Config) -> int:
    """Prepare, ask to be allowed, move, report. 0 where the robot was stopped without a fault."""
    loop_config = LoopConfig.from_dict(config["deploy"])
    if config["arm"] not in ("ask", "now"):
        raise ConfigError(f"arm={config['arm']}: ask, or now")
    if config["module"] is not None:
        if "module" not in config["overrides"]:
            raise ConfigError("module= names code to run: give it on the command line, not in YAML")
        import_robots(Path(config["module"]).expanduser())
    named = config["robot"]
    robot = make_robot(named["name"], named.get("options"), named.get("limits"))
    output = Path(config["output"]).expanduser()
    with Printer() as printer, _recorder(config, robot, loop_config, output) as recorder:
        driven = DryRun(robot, printer.say) if config["dry_run"] else robot
        report = _drive(config, loop_config, robot, driven, printer, recorder)
        if report is None:
            return 1
        print_after(printer, report, robot)
    _write(report, robot, output)
    return 0 if report.stopped and report.transitions[-1].state is State.STOPPED else 1


def _drive(
    config: Config,
    loop_config: LoopConfig,
    robot: Robot,
    driven: Robot,
    printer: "Printer",
    recorder: FlightRecorder | None,
) -> Report | None:
    """One run of the loop; None where nobody armed it."""
    printer.say("loading the policy")
    inference = _inference(config)
    loop = None
    watchdog = None
    try:
        loop = ControlLoop(driven, inference, loop_config, log=printer.say, recorder=recorder)
        loop.prepare()
        if not (config["arm"] == "now" or config["dry_run"] or _ask(printer)):
            printer.say("not armed: nothing was moved")
            return None
        watchdog = _watchdog(config, robot, printer)
        if watchdog is not None:
            loop.heartbeat = watchdog.beat
        loop.arm()
        report = run_watched(loop, config["seconds"])
        if watchdog is not None and watchdog.fired:
            report.notes.append("the watchdog stopped the robot: the loop gave no heartbeat")
        return report
    finally:
        if watchdog is not None:
            watchdog.close()
        if loop is not None:
            loop.close()
        else:
            inference.close()


@contextmanager
def _recorder(
    config: Config, robot: Robot, loop_config: LoopConfig, output: Path
) -> Iterator[FlightRecorder | None]:
    """Keeps the run in output/flight.rec, where that is asked for."""
    if not config["record"]:
        yield None
        return
    output.mkdir(parents=True, exist_ok=True)
    path = output / "flight.rec"
    if path.exists():
        raise ConfigError(f"{path}: exists already, and recordings are never overwritten")
    recorder = FlightRecorder(path, robot.spec, loop_config)
    try:
        yield recorder
    finally:
        recorder.close()
        if recorder.dropped:
            print(f"{path}: {recorder.dropped} records are missing (the disk was full or slow)")


def _inference(config: Config) -> Inference:
    solver = {name: value for name, value in config["solver"].items() if value is not None}
    factory = FromCheckpoint(
        str(Path(config["checkpoint"]).expanduser()),
        config["device"],
        config["weights"],
        solver,
        config["runtime"],
        config["threads"],
        config["seed"],
    )
    if config["inference"] == "process":
        return ProcessInference(factory)
    if config["inference"] == "thread":
        return ThreadInference(*factory())
    raise ConfigError(f"inference={config['inference']}: process, or thread")


def _watchdog(config: Config, robot: Robot, printer: "Printer") -> Watchdog | None:
    if config["watchdog"] is None or config["dry_run"]:
        return None
    stopper = robot.stopper()
    if stopper is None:
        printer.say("no watchdog: this robot has no stopper()")
        return None
    return Watchdog(stopper, config["watchdog"])


def _ask(printer: "Printer") -> bool:
    """Whether a person allows the robot to move."""
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to arm the robot: run it in a terminal, or give arm=now")
    printer.say(NOT_CERTIFIED)
    printer.flush()
    return input("Type ARM to let the robot move, anything else to end: ").strip() == "ARM"


def print_after(printer: "Printer", report: Report, robot: Robot) -> None:
    """The report, after all that was said during the run."""
    printer.flush()
    print(f"\n{report}")
    for name, value in _result(robot).items():
        print(f"{name.replace('_', ' ')} {value:.3f}")


def _write(report: Report, robot: Robot, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    path = output / "report.json"
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
