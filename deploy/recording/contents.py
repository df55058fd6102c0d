"""What the records of a recording say: the beginning, readings, answers of inference."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.transforms import rotation as rotations
from dipole.deploy.loop.config import LoopConfig, ResolvedLoopConfig
from dipole.deploy.recording.file_format import Record, read_format, read_recording
from dipole.deploy.recording.plain import from_plain
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionGroup, number_units
from dipole.deploy.robots.robot import Reading, RobotSpec
from dipole.deploy.types import PolicySpec, Result, Ticket

# What code raises that is given values of a wrong kind, size or order.
WRONG = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError)
LONGEST = 100_000  # actions of a chunk: what is read from a file does not fill the memory


@dataclass(frozen=True)
class Begin:
    """What a recording was made with; the same for all formats.

    channels: Of the robot's observation, by name.
    action_names, action_units: Of each number of an action.
    measured_by: The channels that had to be fit to use beside those that the policy observes.
    policy_hz, control_hz: Actions and commands per second.
    sensor_latency, align_to: See ObservationBuffer.
    dry_run: Whether nothing was sent; None where the recording does not say.
    values: The record's own values, of its format.
    """

    path: Path
    format: int
    channels: Mapping[str, Channel]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    measured_by: tuple[str, ...]
    policy: PolicySpec
    policy_hz: float
    control_hz: float
    sensor_latency: float | Mapping[str, float]
    align_to: str | None
    dry_run: bool | None
    values: Mapping[str, Any]

    def robot(self) -> RobotSpec:
        """The robot as it was declared. Raises DataError for a format of which that is unknown."""
        with explained(f"{self.path}: the robot's declaration"):
            spec: RobotSpec = from_plain(RobotSpec, self.values["robot"])
            return spec

    @property
    def groups(self) -> tuple[ActionGroup, ...]:
        """What actions were made of; of format 1, which did not know of groups, none."""
        return () if self.format == 1 else self.robot().action.groups

    def loop(self) -> ResolvedLoopConfig:
        """The settings of the loop; raises DataError for those that this dipole does not know."""
        with explained(f"{self.path}: the settings of the loop"):
            return LoopConfig.from_dict(self.values["loop"]).resolved(self.policy)


def open_recording(path: Path) -> tuple[Begin, Iterator[Record]]:
    """The beginning of a recording, and an iterator over all records after it.

    Raises DataError for a file that is damaged or does not begin with its beginning; so does the
    iterator where the damage comes later.
    """
    kind, records = read_format(path), read_recording(path)
    first = next((record for record in records if record.kind == "begin"), None)
    if first is None:
        raise DataError(f"{path}: the recording has no beginning, so its actions mean nothing")
    return begin_of(path, kind, first.values), records


class Readable:
    """Records up to the first damage. damage: What it is, once it was reached, or ""."""

    def __init__(self, records: Iterator[Record]) -> None:
        self.damage = ""
        self._records = records

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._records
        except DataError as error:
            self.damage = str(error)


def begin_of(path: Path, number: int, values: Mapping[str, Any]) -> Begin:
    """The beginning of a recording of a format's number, by its values. Raises DataError."""
    with explained(f"{path}: the recording's beginning"):
        robot, loop = values["robot"], values["loop"]
        # Format 1 had no groups; it looked only at what the policy observes.
        groups = (
            robot["action"]["groups"] if number > 1 else [robot["action"] | {"measured_by": ""}]
        )
        names = from_plain(tuple[str, ...], [name for group in groups for name in group["names"]])
        dry_run = values.get("dry_run")
        rates = float(loop["policy_hz"]), float(loop["control_hz"])
        if not all(0 < rate < math.inf for rate in rates) or len(set(names)) < len(names):
            raise ValueError(f"its rates are {rates}, its actions {', '.join(names)}")
        policy = from_plain(PolicySpec, values["policy"])
        if policy.window.horizon > LONGEST:
            raise ValueError(f"the policy's horizon is {policy.window.horizon}")
        return Begin(
            path,
            number,
            channels=from_plain(Mapping[str, Channel], robot["observation"]),
            action_names=names,
            action_units=tuple(unit for group in groups for unit in _units(group)),
            measured_by=tuple({str(g["measured_by"]): 0 for g in groups if g["measured_by"]}),
            policy=policy,
            policy_hz=rates[0],
            control_hz=rates[1],
            sensor_latency=from_plain(float | Mapping[str, float], loop.get("sensor_latency", 0.0)),
            align_to=from_plain(str | None, loop.get("align_to")),
            dry_run=None if dry_run is None else bool(dry_run),
            values=values,
        )


def _units(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The unit of each number of a group, as it was recorded."""
    turned = rotations.XYZW if group.get("quaternions") else ""  # in format 1
    unit = from_plain(str, group["unit"])
    return number_units(unit, len(group["names"]), group.get("rotation", turned))


def reading_of(record: Record) -> Reading | None:
    """What the robot saw, of an "act" record; None where it gave nothing. Raises DataError."""
    if "captured" not in record.values:
        return None
    seen = {k.removeprefix("seen."): v for k, v in record.arrays.items() if k.startswith("seen.")}
    with explained("the time of a reading"):
        times = from_plain(Mapping[str, float], record.values.get("captured_times", {}))
        return Reading(from_plain(float, record.values["captured"]), seen, times)


def result_of(record: Record) -> Result:
    """An answer of inference, of a "result" record. Raises DataError."""
    values = record.values
    with explained("an answer of inference"):
        ticket = from_plain(Ticket, values["ticket"])
        lost = bool(values.get("lost", False))
        return Result(ticket, dict(record.arrays), values["seconds"], values["error"], lost)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raises a DataError about `what` for values that are not as they have to be."""
    try:
        yield
    except (*WRONG, ConfigError) as error:
        raise DataError(f"{what} cannot be read: {type(error).__name__}: {error}") from error
