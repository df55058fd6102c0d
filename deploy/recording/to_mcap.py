"""A recording as MCAP, which Foxglove and rerun open and plot without further set-up.

    topic                    message (JSON, its schema in the file)
    /observation/<name>      {"values": [...]}, flattened; an image: foxglove.CompressedImage, PNG
    /action/wanted           the policy's next action, by its numbers' names, before the limits
    /action/limited          the same, after the limits (format 1 only, see file_format.py)
    /command                 what was sent, at the control rate
    /limits                  which limits a command met (position, velocity, acceleration: 0 or
                             1), how many, by name with their groups (met: "arm velocity"), and by
                             how many seconds it is behind its actions; in format 1, an action
    /hold                    why there was no action
    /state                   the loop's state, by name and number, and why
    /chunk                   an answer of inference: its ticket, seconds, error and actions
    /missing                 how many records were dropped before this moment, and of which kinds
    /outcome                 how the task went, where that was recorded

Times are those of the robot's computer's monotonic clock: seconds since it was started. A message
of an observation has the time of its own capture, all others that of the loop; the metadata
"dipole" hold the wall clock's time at the beginning, and whether it was a dry run.
"""

import base64
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.deploy.loop.states import State
from dipole.deploy.recording.contents import (
    Begin,
    Readable,
    explained,
    open_recording,
    reading_of,
)
from dipole.deploy.recording.file_format import Record
from dipole.deploy.robots.channel import Channel

LIMITS = ("position", "velocity", "acceleration")
STATES = {str(state): number for number, state in enumerate(State)}
NUMBER, TEXT, COUNT = {"type": "number"}, {"type": "string"}, {"type": "integer"}
NUMBERS = {"type": "array", "items": NUMBER}
TEXTS = {"type": "array", "items": TEXT}
TIME = {"type": "object", "properties": {"sec": COUNT, "nsec": COUNT}}
IMAGE = {
    "timestamp": TIME,
    "frame_id": TEXT,
    "data": {"type": "string", "contentEncoding": "base64"},
    "format": TEXT,
}
CHUNK = {
    "chunk_id": COUNT,
    "epoch": COUNT,
    "observation_time": NUMBER,
    "consumed": COUNT,
    "seconds": NUMBER,
    "error": TEXT,
    "actions": {"type": "array", "items": NUMBERS},
}
Message = tuple[str, float, Mapping[str, Any]]  # topic, seconds, content


def export_mcap(recording: Path, output: Path) -> tuple[int, str]:
    """Write a recording to a new MCAP file; how many messages are in it, and the damage, or "".

    The file appears whole or not at all. Of a damaged recording it holds what comes before the
    damage. Raises DataError for a recording that has no beginning, and where `output` exists;
    ModuleNotFoundError where mcap is not installed.
    """
    from mcap.writer import Writer

    if output.exists():
        raise DataError(f"{output} exists: recordings are never overwritten; give another name")
    begin, records = open_recording(recording)
    read = Readable(records)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            writer = Writer(file)
            writer.start(profile="", library="dipole")
            writer.add_metadata("dipole", _about(begin))
            channels = {t: _register(writer, t, name, of) for t, name, of in _topics(begin)}
            count = 0
            for topic, seconds, content in _Messages(begin).of(read):
                time, data = _nanoseconds(seconds), json.dumps(content).encode()
                writer.add_message(channels[topic], time, data, time)
                count += 1
            writer.finish()
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    return count, read.damage


def _about(begin: Begin) -> dict[str, str]:
    told = {"format": begin.format, "dry_run": begin.dry_run}
    told |= {name: begin.values.get(name) for name in ("wall_time", "monotonic_time")}
    return {name: json.dumps(value) for name, value in told.items()}


def _register(writer: Any, topic: str, name: str, properties: Mapping[str, Any]) -> int:
    schema = {"title": name, "type": "object", "properties": properties}
    schema_id = writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
    channel: int = writer.register_channel(topic, "json", schema_id)
    return channel


def _topics(begin: Begin) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every channel: its topic, its schema's name, and its schema's properties."""
    for name, channel in begin.channels.items():
        kind = ("foxglove.CompressedImage", IMAGE) if _is_image(channel) else _values(name)
        yield f"/observation/{name}", *kind
    action = dict.fromkeys(begin.action_names, NUMBER)
    for topic in (*_actions(begin), "/command"):
        yield topic, "dipole.Action", action
    limits = dict.fromkeys(LIMITS, COUNT) | {"count": COUNT, "behind": NUMBER, "met": TEXTS}
    yield "/limits", "dipole.Limits", limits
    yield "/hold", "dipole.Hold", {"reason": TEXT}
    yield "/state", "dipole.State", {"state": TEXT, "number": COUNT, "reason": TEXT}
    yield "/chunk", "dipole.Chunk", CHUNK
    yield "/missing", "dipole.Missing", {"count": COUNT, "kinds": {"type": "object"}}
    yield "/outcome", "dipole.Outcome", {"outcome": {"type": "object"}}


def _actions(begin: Begin) -> dict[str, str]:
    """The topics of actions, and the array of an "act" record that each holds."""
    if begin.format == 1:
        return {"/action/wanted": "wanted", "/action/limited": "action"}
    return {"/action/wanted": "action"}


def _values(name: str) -> tuple[str, Mapping[str, Any]]:
    return f"dipole.Observation.{name}", {"values": NUMBERS}


def _is_image(channel: Channel) -> bool:
    return channel.dtype == "uint8" and len(channel.shape) == 3 and channel.shape[-1] in (1, 3)


class _Messages:
    """The messages of a recording's records, in the order in which things happened."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._answers: list[Record] = []  # an answer counts when the loop took it in
        self._captured: dict[str, float] = {}  # when each entry that was told last was captured
        self._now = 0.0

    def of(self, records: Iterable[Record]) -> Iterator[Message]:
        for number, record in enumerate(records):
            with explained(f"{self._begin.path}: record {number} after the beginning"):
                yield from self._told(record)
        yield from self._chunks()

    def _told(self, record: Record) -> Iterator[Message]:
        values = record.values
        if record.missing:
            count = sum(record.missing.values())
            yield "/missing", self._now, {"count": count, "kinds": dict(record.missing)}
        if record.kind == "result":
            self._answers.append(record)
            return
        self._now = now = float(values.get("now", values.get("time", self._now)))
        yield from self._chunks()
        if record.kind == "state":
            yield "/state", now, _state(record)
        elif record.kind == "outcome":
            yield "/outcome", now, {"outcome": dict(values)}
        elif record.kind == "command":
            yield "/command", now, self._named(record.arrays["command"])
            if "clamps" in values:
                met = _limits(values["clamps"])
                yield "/limits", now, met | {"behind": float(values.get("behind", 0.0))}
        elif record.kind == "act":
            yield from self._readings(record)
            yield from self._acted(record)

    def _chunks(self) -> Iterator[Message]:
        for answer in self._answers:
            yield "/chunk", self._now, _chunk(answer)
        self._answers.clear()

    def _readings(self, record: Record) -> Iterator[Message]:
        """A reading is recorded at every look, also where it is not new."""
        reading = reading_of(record)
        for name, channel in self._begin.channels.items():
            if reading is None or name not in reading.values:
                continue
            captured = reading.times.get(name, reading.time)
            if captured == self._captured.get(name):
                continue
            self._captured[name] = captured
            time = captured if _is_time(captured) else self._now
            value = reading.values[name]
            image = _is_image(channel) and value.shape == channel.shape and value.dtype == np.uint8
            content = _picture(value, name, time) if image else {"values": _list(value)}
            yield f"/observation/{name}", time, content

    def _acted(self, record: Record) -> Iterator[Message]:
        arrays, now = record.arrays, self._now
        for topic, name in _actions(self._begin).items():
            if name in arrays:
                yield topic, now, self._named(arrays[name])
        if "action" in arrays and "clamps" in record.values:
            yield "/limits", now, _limits(record.values["clamps"])
        if record.values["hold"]:
            yield "/hold", now, {"reason": record.values["hold"]}

    def _named(self, action: np.ndarray) -> dict[str, float | None]:
        return dict(zip(self._begin.action_names, _list(action), strict=True))


def _limits(clamps: Sequence[str]) -> dict[str, Any]:
    """clamps: "velocity", or "arm velocity" of a robot with several groups."""
    kinds = [clamp.rpartition(" ")[2] for clamp in clamps]
    told = {limit: int(limit in kinds) for limit in LIMITS}
    return told | {"count": len(clamps), "met": list(clamps)}


def _chunk(answer: Record) -> dict[str, Any]:
    actions = answer.arrays.get("action")
    told = {"seconds": answer.values["seconds"], "error": answer.values["error"]}
    rows = [] if actions is None else [_list(row) for row in np.atleast_2d(actions)]
    return {**answer.values["ticket"], **told, "actions": rows}


def _state(record: Record) -> dict[str, Any]:
    state = record.values["state"]
    return {"state": state, "number": STATES.get(state, -1), "reason": record.values["reason"]}


def _list(values: np.ndarray) -> list[float | None]:
    """JSON has no NaN: null is what a plot leaves out."""
    return [float(value) if np.isfinite(value) else None for value in np.ravel(values)]


def _is_time(seconds: float) -> bool:
    """Whether MCAP can hold it: nanoseconds are a whole number of 64 bits, not negative."""
    return 0 <= seconds < 2**63 / 1e9


def _nanoseconds(seconds: float) -> int:
    if not _is_time(seconds):
        raise DataError(f"a record of the time {seconds} s, which MCAP cannot hold")
    return round(seconds * 1e9)


def _picture(image: np.ndarray, name: str, captured: float) -> dict[str, Any]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG")
    seconds, nanoseconds = divmod(_nanoseconds(captured), 10**9)
    return {
        "timestamp": {"sec": seconds, "nsec": nanoseconds},
        "frame_id": name,
        "data": base64.b64encode(stream.getvalue()).decode(),
        "format": "png",
    }
