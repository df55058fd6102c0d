"""How a run ended, for whoever was not there: printed, and in report.json.

Nothing in here may lose what is known of the robot's stop: what goes wrong becomes a note.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.deploy.loop.log import LOGGER
from dipole.deploy.loop.report import Report
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.attempt import attempt

REPORT = "report.json"
RESULT_SECONDS = 10.0  # for the robot to say how the task went
SHOWN = 200  # characters of a value that cannot be used


@contextmanager
def refusal_reported(
    output: Path | None, kind: type[BaseException] = DipoleError
) -> Iterator[None]:
    """Leaves {"state": "REFUSED", "reason": ...} in output/report.json where a run cannot begin.

    The report of a run that is there already stays.
    kind: Of the exceptions because of which it does not begin.
    """
    try:
        yield
    except kind as error:
        if output is not None and not _is_of_a_run(output / REPORT):
            named = isinstance(error, DipoleError)
            reason = str(error) if named else f"{type(error).__name__}: {error}".rstrip(": ")
            if problem := _write(output / REPORT, {"state": "REFUSED", "reason": reason}):
                error.add_note(problem)
        raise


def _is_of_a_run(path: Path) -> bool:
    try:
        return path.exists() and json.loads(path.read_text()).get("state") != "REFUSED"
    except (OSError, ValueError, AttributeError):
        return True


def task_result(robot: Robot, notes: list[str]) -> dict[str, float]:
    """What the robot says of how the task went: its finite numbers.

    robot: Still connected; it was told to stop.
    notes: Is told what cannot be used, and why.
    """
    returned: list[Any] = []
    problem = attempt(lambda: returned.append(robot.result()), RESULT_SECONDS)
    if problem:
        notes.append(f"the robot's result() failed: {problem}")
        return {}
    said = returned[0]
    if not isinstance(said, Mapping):
        notes.append(f"the robot's result() returned {_shown(said)}: {{name: number}} is needed")
        return {}
    task = {}
    for name, value in said.items():
        number = _finite(value)
        if number is None:
            notes.append(
                f"the robot's result() says {name} = {_shown(value)}: a finite number is needed"
            )
        else:
            task[str(name)] = number
    return task


def _finite(value: Any) -> float | None:
    """The number that it is, of numpy or torch too; None for anything else."""
    try:
        if getattr(value, "ndim", None) == 0:
            value = value.item()
        number = float(value) if isinstance(value, int | float) else math.nan
    except Exception:  # of whatever class the robot returned
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    try:
        return repr(value)[:SHOWN]
    except Exception:
        return f"a {type(value).__name__}"


def write_report(report: Report, task: Mapping[str, float], output: Path | None) -> str:
    """Write the report, in the place of one from before; what went wrong, "" if nothing did.

    task: How the task went.
    output: The folder of report.json; None: it is not written.
    """
    if output is None:
        return ""
    return _write(output / REPORT, report.to_dict() | {"task": dict(task)})


def tell(report: Report, task: Mapping[str, float], output: Path | None) -> None:
    """Write the report, and then print it, because a terminal may be closed.

    task: How the task went.
    output: The folder of report.json; None: it is only printed.
    """
    path = None if output is None else output / REPORT
    if problem := write_report(report, task, output):
        report.notes.append(problem)
        path = None
    LOGGER.info(f"\n{report}")
    for name, value in task.items():
        LOGGER.info(f"{name.replace('_', ' ')} {value:.3f}")
    if path is not None:
        LOGGER.info(str(path))


def _write(path: Path, values: Mapping[str, Any]) -> str:
    """What went wrong, "" if nothing did; half a report does not stay."""
    text = json.dumps(values, indent=1) + "\n"
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return f"{path} could not be written: {error}"
    return ""
