"""ROS 2 messages as frames: vectors of numbers with names, and pictures.

sensor_msgs/JointState gives position, velocity and effort, each by the joints' names.
sensor_msgs/Image and CompressedImage give pictures. Of any other message all its numbers are taken,
in the order of their fields, without header, layout and text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.precision import rounded_columns
from dipole.data.sources.encoded_images import decode_frame, image_shape
from dipole.data.store.schema import FrameSchema, stored_dtype

_NOT_VALUES = ("header", "layout", "stamp")
_MOST_NUMBERS = 4096  # in a vector; more is a point cloud or a map
_RAW = {  # encoding: (dtype, channels stored, order of the channels taken)
    "rgb8": ("u1", 3, [0, 1, 2]),
    "bgr8": ("u1", 3, [2, 1, 0]),
    "rgba8": ("u1", 4, [0, 1, 2]),
    "bgra8": ("u1", 4, [2, 1, 0]),
    "8uc3": ("u1", 3, [2, 1, 0]),
    "mono8": ("u1", 1, [0]),
    "8uc1": ("u1", 1, [0]),
    "mono16": ("u2", 1, [0]),
    "16uc1": ("u2", 1, [0]),
    "32fc1": ("f4", 1, [0]),
}
# What Python raises at a message whose recording defines its type in another way.
_OTHER_FIELDS = (AttributeError, TypeError, OverflowError, MemoryError)
_DEPTH = {"16uc1": "mm", "32fc1": "m"}


@dataclass(frozen=True)
class Part:
    """What a topic's messages hold for one key. name: behind the topic's, "" where it has one."""

    name: str
    schema: FrameSchema


class NotTakenError(ValueError):
    """A message that does not become a frame; the message says why."""


def parts_of(kind: str, message: Any) -> list[Part]:
    """The keys that messages like this one give; raises NotTakenError where they give none.

    kind: the message's type, such as "sensor_msgs/msg/JointState".
    """
    try:
        return _parts(kind, message)
    except _OTHER_FIELDS as error:
        raise NotTakenError(f"not the fields of {kind} ({error})") from error


def _parts(kind: str, message: Any) -> list[Part]:
    name = kind.rsplit("/", maxsplit=1)[-1]
    if name == "JointState":
        parts = [
            Part(
                field,
                FrameSchema(
                    (len(message.name),), np.dtype(np.float32), "state", units, tuple(message.name)
                ),
            )
            for field, units in (("position", ""), ("velocity", ""), ("effort", ""))
            if len(getattr(message, field)) == len(message.name) > 0
        ]
        if not parts:
            raise NotTakenError("joint states without names, or as many numbers as names")
        return parts
    if name == "Image":
        return [Part("", _raw_schema(message))]
    if name == "CompressedImage":
        shape = image_shape(bytes(message.data))
        if shape is None:
            raise NotTakenError(
                f"pictures of format {message.format!r}; JPEG, PNG and WebP are read"
            )
        return [Part("", FrameSchema(shape, np.dtype(np.uint8), "image"))]
    values = list(_numbers(message, ""))
    if not values:
        raise NotTakenError("no numbers in its messages")
    if len(values) > _MOST_NUMBERS:
        raise NotTakenError(f"{len(values)} numbers a message")
    names = tuple(name for name, _ in values)
    return [Part("", FrameSchema((len(values),), np.dtype(np.float32), "state", "", names))]


def dtype_of(frames: np.ndarray) -> np.dtype[Any]:
    """The dtype in which messages' numbers [N, size] are stored; see `stored_dtype`.

    Messages of float32 are decoded as float64 and lose nothing.
    """
    return np.dtype(stored_dtype(frames[:, rounded_columns(frames)]))


def frame_of(kind: str, message: Any, part: Part, where: str) -> np.ndarray:
    """The frame that a message gives, numbers in float64; raises DataError, beginning with `where`,
    for another shape or other names than the first message had."""
    try:
        return _frame(kind, message, part, where)
    except (*_OTHER_FIELDS, ValueError) as error:
        raise DataError(f"{where}: not the fields of {kind} ({error})") from error


def _frame(kind: str, message: Any, part: Part, where: str) -> np.ndarray:
    name, shape = kind.rsplit("/", maxsplit=1)[-1], part.schema.shape or ()
    if name == "CompressedImage":
        return decode_frame(bytes(message.data), shape, where)
    if name == "Image":
        return _raw_picture(message, part.schema, where)
    if name == "JointState":
        return _joints(message, part, where)
    values = list(_numbers(message, ""))
    if tuple(name for name, _ in values) != part.schema.names:
        raise DataError(
            f"{where}: {len(values)} numbers where the first message has {shape[0]}: its length "
            "changes, so it is no vector. Leave the key out"
        )
    return np.array([value for _, value in values], np.float64)


def _joints(message: Any, part: Part, where: str) -> np.ndarray:
    """Values of the joints in the order of the first message."""
    values = dict(zip(message.name, getattr(message, part.name), strict=False))
    if set(values) != set(part.schema.names) or len(message.name) != len(values):
        raise DataError(
            f"{where}: joints {', '.join(message.name)}, but {', '.join(part.schema.names)} in the "
            "first message. Record each group of joints in a topic of its own"
        )
    return np.array([values[name] for name in part.schema.names], np.float64)


def _raw_schema(message: Any) -> FrameSchema:
    encoding = message.encoding.lower()
    if encoding not in _RAW:
        raise NotTakenError(
            f"pictures in encoding {message.encoding!r}; read are {', '.join(_RAW)}"
        )
    dtype, _, order = _RAW[encoding]
    shape = (int(message.height), int(message.width), len(order))
    if encoding in ("16uc1", "mono16", "32fc1"):
        kind = "depth" if encoding in _DEPTH else "state"
        return FrameSchema(shape, np.dtype(dtype), kind, _DEPTH.get(encoding, ""))
    return FrameSchema(shape, np.dtype(np.uint8), "image")


def _raw_picture(message: Any, schema: FrameSchema, where: str) -> np.ndarray:
    encoding = message.encoding.lower()
    height, width = int(message.height), int(message.width)
    if encoding not in _RAW or (height, width) != (schema.shape or ())[:2]:
        raise DataError(
            f"{where}: a picture of {height}×{width} in {message.encoding!r}, "
            f"{list(schema.shape or ())} expected. Leave the episode or the key out"
        )
    dtype, channels, order = _RAW[encoding]
    item = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    raw = np.frombuffer(bytes(message.data), np.uint8)
    row = width * channels * item.itemsize
    if message.step < row or len(raw) < message.step * height:
        raise DataError(f"{where}: {len(raw)} bytes are too few for a picture of {height}×{width}")
    rows = raw[: message.step * height].reshape(height, message.step)[:, :row]
    pixels = np.ascontiguousarray(rows).view(item).reshape(height, width, channels)[..., order]
    if encoding == "32fc1":  # where nothing was measured there is NaN; stored as 0, as in 16UC1
        pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    return pixels.astype(schema.dtype)


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """(name, number) of every number in a message, in the order of its fields."""
    if isinstance(value, bool | int | float | np.number):
        yield name, float(value)
    elif isinstance(value, str | bytes):
        return
    elif hasattr(value, "__slots__"):  # a message within the message
        for field in value.__slots__:
            if field not in _NOT_VALUES:
                yield from _numbers(getattr(value, field), f"{name}.{field}".strip("."))
    elif hasattr(value, "__len__"):
        if len(value) > _MOST_NUMBERS:
            yield from ((name, 0.0) for _ in range(_MOST_NUMBERS + 1))
            return
        for number, inner in enumerate(value):
            yield from _numbers(inner, f"{name}.{number}".strip("."))
