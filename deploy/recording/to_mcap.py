"""A recording as MCAP, which Foxglove and rerun open and plot without further set-up.

    topic                    message (JSON, its schema in the file)
    /observation/<name>      {"values": [...]}, flattened; an image: foxglove.CompressedImage, PNG
    /action/wanted           the policy's next action, by its numbers' names, before the limits
    /action/limited          the same, after the limits
    /command                 what was sent, at the controller's rate
    /limits                  which limits the action met, and how many
    /hold                    why there was no action
    /state                   the loop's state, by name and number, and why
    /chunk                   an answer of inference: its ticket, seconds, error and actions

Times are those of the robot's computer's monotonic clock: seconds since it was started.
"""

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.errors import DataError
from dipole.deploy.loop.states import State
from dipole.deploy.recording.file_format import Record, read_recording

LIMITS = ("position", "velocity", "acceleration")
STATES = {str(state): number for number, state in enumerate(State)}
NUMBER, TEXT, COUNT = {"type": "number"}, {"type": "string"}, {"type": "integer"}
NUMBERS = {"type": "array", "items": NUMBER}
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


def export_mcap(recording: Path, output: Path) -> int:
    """Write a recording to a new MCAP file, and return how many messages are in it.

    The file appears whole or not at all. Raises DataError for a recording that is damaged or has no
    beginning, and where `output` exists; ModuleNotFoundError where mcap is not installed.
    """
    from mcap.writer import Writer

    if output.exists():
        raise DataError(f"{output} exists: recordings are never overwritten; give another name")
    records = read_recording(recording)
    begin = next((record for record in records if record.kind == "begin"), None)
    if begin is None:
        raise DataError(f"{recording}: the recording has no beginning, so its actions mean nothing")
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            writer = Writer(file)
            writer.start(profile="", library="dipole")
            channels = {
                topic: _register(writer, topic, name, properties)
                for topic, name, properties in _topics(begin.values["robot"])
            }
            count = 0
            for topic, seconds, content in _messages(records, begin.values["robot"]):
                nanoseconds = round(seconds * 1e9)
                data = json.dumps(content).encode()
                writer.add_message(channels[topic], nanoseconds, data, nanoseconds)
                count += 1
            writer.finish()
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _register(writer: Any, topic: str, name: str, properties: Mapping[str, Any]) -> int:
    schema = {"title": name, "type": "object", "properties": properties}
    schema_id = writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
    channel: int = writer.register_channel(topic, "json", schema_id)
    return channel


def _topics(robot: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every channel: its topic, its schema's name, and its schema's properties."""
    for name, channel in robot["observation"].items():
        kind = ("foxglove.CompressedImage", IMAGE) if _is_image(channel) else _values(name)
        yield f"/observation/{name}", *kind
    action = dict.fromkeys(robot["action"]["names"], NUMBER)
    for topic in ("/action/wanted", "/action/limited", "/command"):
        yield topic, "dipole.Action", action
    yield "/limits", "dipole.Limits", dict.fromkeys(LIMITS, COUNT) | {"count": COUNT}
    yield "/hold", "dipole.Hold", {"reason": TEXT}
    yield "/state", "dipole.State", {"state": TEXT, "number": COUNT, "reason": TEXT}
    yield "/chunk", "dipole.Chunk", CHUNK


def _values(name: str) -> tuple[str, Mapping[str, Any]]:
    return f"dipole.Observation.{name}", {"values": NUMBERS}


def _is_image(channel: Mapping[str, Any]) -> bool:
    shape = channel["shape"]
    return channel["dtype"] == "uint8" and len(shape) == 3 and shape[-1] in (1, 3)


def _messages(records: Iterator[Record], robot: Mapping[str, Any]) -> Iterator[Message]:
    """In the order in which things happened; an answer counts when the loop took it in."""
    answers: list[Record] = []
    seen_at = float("-inf")
    now = 0.0
    for record in records:
        if record.kind == "result":
            answers.append(record)
            continue
        now = float(record.values.get("now", record.values.get("time", now)))
        for answer in answers:
            yield "/chunk", now, _chunk(answer)
        answers.clear()
        if record.kind == "state":
            yield "/state", now, _state(record)
        elif record.kind == "command":
            yield "/command", now, _named(record.arrays["command"], robot)
        elif record.kind == "act":
            captured = float(record.values.get("captured", seen_at))
            if captured > seen_at:  # a reading is recorded at every look, also where it is not new
                seen_at = captured
                yield from _readings(record, captured, robot)
            yield from _acted(record, now, robot)
    for answer in answers:
        yield "/chunk", now, _chunk(answer)


def _readings(record: Record, captured: float, robot: Mapping[str, Any]) -> Iterator[Message]:
    for name, channel in robot["observation"].items():
        value = record.arrays.get(f"seen.{name}")
        if value is None:
            continue
        image = _is_image(channel) and value.dtype == np.uint8
        content = _picture(value, name, captured) if image else {"values": _list(value)}
        yield f"/observation/{name}", captured, content


def _acted(record: Record, now: float, robot: Mapping[str, Any]) -> Iterator[Message]:
    arrays, clamps = record.arrays, record.values["clamps"]
    for topic, name in (("/action/wanted", "wanted"), ("/action/limited", "action")):
        if name in arrays:
            yield topic, now, _named(arrays[name], robot)
    if "action" in arrays:
        met = {limit: int(limit in clamps) for limit in LIMITS}
        yield "/limits", now, met | {"count": len(clamps)}
    if record.values["hold"]:
        yield "/hold", now, {"reason": record.values["hold"]}


def _chunk(answer: Record) -> dict[str, Any]:
    actions = answer.arrays.get("action")
    told = {"seconds": answer.values["seconds"], "error": answer.values["error"]}
    rows = [] if actions is None else [_list(row) for row in np.atleast_2d(actions)]
    return {**answer.values["ticket"], **told, "actions": rows}


def _state(record: Record) -> dict[str, Any]:
    state = record.values["state"]
    return {"state": state, "number": STATES.get(state, -1), "reason": record.values["reason"]}


def _named(action: np.ndarray, robot: Mapping[str, Any]) -> dict[str, float | None]:
    return dict(zip(robot["action"]["names"], _list(action), strict=True))


def _list(values: np.ndarray) -> list[float | None]:
    """JSON has no NaN: null is what a plot leaves out."""
    return [float(value) if np.isfinite(value) else None for value in np.ravel(values)]


def _picture(image: np.ndarray, name: str, captured: float) -> dict[str, Any]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG")
    seconds = int(captured)
    return {
        "timestamp": {"sec": seconds, "nsec": int((captured - seconds) * 1e9)},
        "frame_id": name,
        "data": base64.b64encode(stream.getvalue()).decode(),
        "format": "png",
    }
