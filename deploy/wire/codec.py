"""Messages between a client and a policy server: msgpack, with numpy's arrays in it.

An array is a map, as openpi's clients and servers write it, and so is a number of numpy's:

    {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2, 3]}
    {b"__npgeneric__": True, b"data": 1.5, b"dtype": "<f4"}

What comes from a network is read value by value, and each is checked before anything is allocated
for it. Nothing in a message is executed.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from dipole.data.core.errors import DipoleError

ARRAY, NUMBER, DATA, DTYPE, SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"
DTYPES = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
AXES = 8
# First bytes of msgpack's kinds (msgpack's spec.md); short ones hold their length.
MAPS = {*range(0x80, 0x90), 0xDE, 0xDF}
LISTS = {*range(0x90, 0xA0), 0xDC, 0xDD}
EXTENSIONS = {0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)}
MALFORMED = (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException)


class MessageError(DipoleError):
    """A message that cannot be read, or is larger than allowed; says what is wrong with it."""


@dataclass(frozen=True)
class MessageLimits:
    """size: bytes of a message; values: how many there may be, keys and inner ones included; depth:
    maps and lists in one another; text: bytes of a string."""

    size: int = 32 * 2**20
    values: int = 4096
    depth: int = 8
    text: int = 16 * 2**10


DEFAULT_LIMITS = MessageLimits()


def pack(value: Any) -> bytes:
    """The bytes of plain values and arrays. Raises MessageError for what has no place in them."""
    try:
        packed: bytes = msgpack.packb(value, default=_plain)
    except MALFORMED as error:
        raise MessageError(f"cannot be sent: {error}") from error
    return packed


def unpack(data: bytes, limits: MessageLimits = DEFAULT_LIMITS) -> Any:
    """The value in `data`; arrays are read-only views. Raises MessageError."""
    if len(data) > limits.size:
        raise MessageError(f"the message has {len(data)} bytes; {limits.size} are allowed")
    reader = _Reader(data, limits)
    try:
        value = reader.read(0)
    except MALFORMED as error:
        raise MessageError(f"not readable as msgpack: {_said(error)}") from None
    if reader.left:
        raise MessageError(f"{reader.left} bytes follow the message's end")
    return value


class _Reader:
    """Walks through a message; msgpack reads each value that is neither a map nor a list."""

    def __init__(self, data: bytes, limits: MessageLimits) -> None:
        self._data, self._limits = data, limits
        self._values = 0
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=max(len(data), 1), max_str_len=limits.text, raw=False
        )
        self._unpacker.feed(data)

    @property
    def left(self) -> int:
        return len(self._data) - int(self._unpacker.tell())

    def read(self, depth: int) -> Any:
        self._values += 1
        if self._values > self._limits.values:
            raise MessageError(f"the message has more than {self._limits.values} values")
        if not self.left:
            raise MessageError("the message ends too early")
        first = self._data[self._unpacker.tell()]
        if first in EXTENSIONS:
            raise MessageError("the message has an extension type; none is known")
        if first not in MAPS and first not in LISTS:
            return self._unpacker.unpack()
        if depth >= self._limits.depth:
            raise MessageError(f"the message is nested more than {self._limits.depth} deep")
        return self._map(depth) if first in MAPS else self._list(depth)

    def _list(self, depth: int) -> list[Any]:
        length = self._fitting(self._unpacker.read_array_header())
        return [self.read(depth + 1) for _ in range(length)]

    def _map(self, depth: int) -> Any:
        length = self._fitting(self._unpacker.read_map_header())
        read: dict[Any, Any] = {}
        for _ in range(length):
            key = self.read(self._limits.depth)  # neither a map nor a list
            if not isinstance(key, str | bytes) or key in read:
                raise MessageError(f"the message has a map with the key {key!r:.40}, or twice")
            read[key] = self.read(depth + 1)
        if ARRAY in read:
            return _array(read)
        return _number(read) if NUMBER in read else read

    def _fitting(self, length: int) -> int:
        """Every entry takes a byte at least."""
        if length > self.left:
            raise MessageError("the message ends too early")
        return length


def _plain(value: Any) -> Any:
    """Numpy's values as maps."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"a {type(value).__name__} has no place in a message")
    code = value.dtype.str
    if not DTYPES.fullmatch(code):
        raise TypeError(f"dtype {value.dtype} has no place in a message")
    if isinstance(value, np.ndarray):
        return {ARRAY: True, DATA: value.tobytes(), DTYPE: code, SHAPE: list(value.shape)}
    return {NUMBER: True, DATA: value.item(), DTYPE: code}


def _array(entries: Mapping[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(entries), entries.get(DATA), entries.get(SHAPE)
    if not isinstance(data, bytes):
        raise MessageError(f"an array's data is {type(data).__name__}, not bytes")
    if (
        not isinstance(shape, list)
        or len(shape) > AXES
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise MessageError(f"an array's shape is {shape!r:.80}; at most {AXES} sizes are needed")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise MessageError(f"an array of shape {shape} and dtype {dtype} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _number(entries: Mapping[Any, Any]) -> Any:
    dtype, value = _dtype(entries), entries.get(DATA)
    if not isinstance(value, bool | int | float):
        raise MessageError(f"a number is {type(value).__name__}")
    return dtype.type(value)


def _dtype(entries: Mapping[Any, Any]) -> np.dtype[Any]:
    code = entries.get(DTYPE)
    if not isinstance(code, str) or not DTYPES.fullmatch(code):
        raise MessageError(f"dtype {code!r:.40} is none of f2, f4, f8, i1 to i8, u1 to u8, b1")
    return np.dtype(code)


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
