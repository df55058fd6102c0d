"""Recordings again: the same actions from them, and demonstrations."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.errors import DataError
from dipole.data.window_spec import WindowSpec
from dipole.deploy.inference.base import NOTHING_KNOWN
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.receding_horizon import RecedingHorizon
from dipole.deploy.loop.report import Report
from dipole.deploy.recording.file_format import Record, read_recording
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.robot import Channel, Reading, RobotSpec
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import (
    Arrays,
    Decision,
    KnownActions,
    Meaning,
    PolicySpec,
    Request,
    Result,
    Ticket,
    read_fps,
)


@dataclass(frozen=True)
class Replayed:
    """One decision of a recording: what was decided then, and what the pilot decides again."""

    then: Record
    again: Decision

    @property
    def same(self) -> bool:
        """Whether both are the same, to the last bit."""
        was = self.then.arrays.get("action")
        if was is None or self.again.action is None:
            return was is None and self.again.action is None
        return bool(np.array_equal(was, self.again.action))


def replay(path: Path) -> Iterator[Replayed]:
    """Decide everything in a recording again, from what was seen and computed then.

    Raises DataError for a file that is damaged, or does not begin with its beginning.
    """
    records = read_recording(path)
    begin = _begin(path, records)
    inference = _RecordedAnswers(_policy_spec(begin["policy"]))
    config = LoopConfig.from_dict(begin["loop"]).resolved(inference.spec)
    report = Report(VirtualClock(), config.control_hz)
    pilot = RecedingHorizon(
        _robot_spec(begin["robot"]), inference, config, report, lambda _line: None
    )
    for record in records:
        if record.kind == "result":
            inference.hear(record)
        elif record.kind == "state" and record.values["state"] in ("IDLE", "ARMED"):
            pilot.reset()  # as `reset` and `run` do
        elif record.kind == "act":
            decision = pilot.decide(_reading(record), record.values["now"])
            yield Replayed(record, decision)


def export(path: Path, output: Path, shortest: int = 16) -> int:
    """Write a recording as demonstrations, and return how many episodes there are.

    A frame is what was seen, and the action that was then commanded, at the policy's rate; a hold
    ends an episode, and those of fewer than `shortest` frames are left out. Raises DataError.
    """
    from dipole.data import EpisodeWriter  # late: a robot's computer replays without zarr

    records = read_recording(path)
    begin = _begin(path, records)
    with EpisodeWriter(output, fps=float(begin["loop"]["policy_hz"])) as writer:
        for frames in _episodes(records):
            if len(frames) >= shortest:
                keys = frames[0]
                writer.add_episode({key: np.stack([f[key] for f in frames]) for key in keys})
        return writer.n_episodes


def _episodes(records: Iterator[Record]) -> Iterator[list[dict[str, np.ndarray]]]:
    frames: list[dict[str, np.ndarray]] = []
    for record in records:
        if record.kind != "act":
            continue
        if "action" not in record.arrays:
            yield frames
            frames = []
        elif (reading := _reading(record)) is not None:
            frames.append({**reading.values, "action": record.arrays["action"]})
    yield frames


class _RecordedAnswers:
    """Answers as they came, each after it was asked for."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._heard: deque[Result] = deque()
        self._asked = 0

    def hear(self, record: Record) -> None:
        values = record.values
        ticket = Ticket(**values["ticket"])
        answer, lost = dict(record.arrays), values.get("lost", False)
        self._heard.append(Result(ticket, answer, values["seconds"], values["error"], lost))

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        return []

    def submit(self, request: Request) -> None:
        self._asked = request.ticket.chunk_id

    def poll(self) -> Result | None:
        if self._heard and self._heard[0].ticket.chunk_id <= self._asked:
            return self._heard.popleft()
        return None

    def close(self) -> None:
        pass


def _begin(path: Path, records: Iterator[Record]) -> Mapping[str, Any]:
    first = next((record for record in records if record.kind == "begin"), None)
    if first is None:
        raise DataError(f"{path}: the recording has no beginning, so its actions mean nothing")
    return first.values


def _reading(record: Record) -> Reading | None:
    if "captured" not in record.values:
        return None
    seen = {k.removeprefix("seen."): v for k, v in record.arrays.items() if k.startswith("seen.")}
    return Reading(record.values["captured"], seen, record.values.get("captured_times", {}))


def _robot_spec(values: Mapping[str, Any]) -> RobotSpec:
    channels = {
        name: Channel(
            tuple(c["shape"]),
            c["dtype"],
            c["unit"],
            tuple(c.get("quaternions", ())),
            tuple(c.get("names", ())),
        )
        for name, c in values["observation"].items()
    }
    action = values["action"]
    limits = Limits(**{name: tuple(limit) for name, limit in values["limits"].items()})
    names, quaternions = tuple(action["names"]), tuple(action["quaternions"])
    spec = ActionSpec(names, action["unit"], action["measured_by"], quaternions)
    return RobotSpec(channels, spec, limits)


def _policy_spec(values: Mapping[str, Any]) -> PolicySpec:
    observation = {name: tuple(shape) for name, shape in values["observation"].items()}
    size, window = values["action_size"], WindowSpec(**values["window"])
    meaning = {  # recordings from before hold none
        name: Meaning.read(observation.get(name, (size,)), entry)
        for name, entry in values.get("meaning", {}).items()
    }
    inpaints, fps = values.get("inpaints", False), read_fps(values.get("fps"))
    return PolicySpec(observation, size, window, inpaints, fps, meaning)
