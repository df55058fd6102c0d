"""Messages between a simulator's process and ours: msgpack behind a length, arrays as raw bytes.

Read in both interpreters: it needs Python 3.8, numpy and msgpack, and nothing of dipole. An array
is an extension of msgpack with its type, its shape and its bytes; those of replies that are larger
than a few KiB lie in memory that both processes map. It has no name: nothing is left of it. No
message is executed.
"""

from __future__ import annotations

import mmap
import os
import re
import socket
import struct
from typing import Any, Callable  # noqa: UP035  Python 3.8

try:  # what is missing, the server's greeting says
    import msgpack
except ImportError:
    msgpack = None
try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

OLDEST = (3, 8)  # Python's version
ARRAY, SHARED, NUMBER = 1, 2, 3  # msgpack's extension types
IN_MEMORY = 4096  # bytes from which arrays go through the memory
LARGEST = 1 << 30  # bytes of a message
DTYPE = re.compile(r"[<>|=](b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU]\d+|[mM]8(\[\w+\])?)")
LENGTH = struct.Struct("<I")


def missing() -> list[str]:
    """The modules that messages need and this interpreter lacks."""
    return [name for name, module in (("numpy", np), ("msgpack", msgpack)) if module is None]


class WireError(ValueError):
    """A value that cannot be sent, or a message that cannot be read."""


class Memory:
    """A file that both processes map. The server writes into it, from its start for each reply."""

    def __init__(self, descriptor: int) -> None:
        self._file, self._map, self._used = descriptor, None, 0  # type: int, Any, int

    def rewind(self) -> None:
        self._used = 0

    def write(self, array: Any) -> int | None:
        """Where the array's bytes lie now; None where there is no room for them."""
        start, end = self._used, self._used + array.nbytes
        try:
            self._fit(end, grow=True)
        except (OSError, ValueError):
            return None
        self._map[start:end] = memoryview(array.reshape(-1).view(np.uint8))
        self._used = (end + 63) // 64 * 64
        return start

    def read(self, start: int, size: int) -> memoryview:
        """What was written, to be copied at once. Raises WireError for places that it has not."""
        try:
            self._fit(start + size, grow=False)
        except (OSError, ValueError, OverflowError) as error:
            raise WireError(f"{size} bytes at {start} of the shared memory: {error}") from None
        return memoryview(self._map)[start : start + size]

    def _fit(self, size: int, grow: bool) -> None:
        if self._map is not None and size <= len(self._map):
            return
        held = os.fstat(self._file).st_size
        if size > held:
            if not grow:
                raise ValueError(f"it has {held}")
            held = max(2 * held, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            if hasattr(os, "posix_fallocate"):  # room that is not there is an error, not a signal
                os.posix_fallocate(self._file, 0, held)
            else:
                os.ftruncate(self._file, held)
        self.close()
        self._map = mmap.mmap(self._file, held)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def pack(value: Any, memory: Memory | None = None) -> bytes:
    """The bytes of plain values and arrays. Raises WireError for what has no place in them."""
    if memory is not None:
        memory.rewind()
    try:
        return bytes(msgpack.packb(value, default=lambda found: _extension(found, memory)))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be sent: {error}") from error


def unpack(data: bytes, memory: Memory | None = None) -> Any:
    """The value in `data`; arrays are the caller's own. Raises WireError."""
    try:
        hook = lambda kind, said: _extended(kind, said, memory)  # noqa: E731
        return msgpack.unpackb(data, ext_hook=hook, strict_map_key=False)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException) as error:
        said = str(error) or type(error).__name__
        raise WireError(f"{len(data)} bytes are not readable as a message: {said}") from error


def _extension(value: Any, memory: Memory | None) -> Any:
    if hasattr(value, "detach"):  # a tensor of torch
        value = value.detach().cpu().numpy()
    if not isinstance(value, (np.ndarray, np.generic)) and not hasattr(value, "__array__"):
        raise WireError(f"a {type(value).__name__} is neither a number, a text nor an array")
    array = np.asarray(value)
    if not DTYPE.fullmatch(array.dtype.str):
        raise WireError(f"an array of {array.dtype} is none of numbers or texts")
    header = [array.dtype.str, list(array.shape)]
    array = np.ascontiguousarray(array)
    if memory is not None and array.nbytes >= IN_MEMORY:
        place = memory.write(array)
        if place is not None:
            return msgpack.ExtType(SHARED, msgpack.packb([*header, place]))
    kind = NUMBER if isinstance(value, np.generic) else ARRAY
    return msgpack.ExtType(kind, msgpack.packb([*header, array.tobytes()]))


def _extended(kind: int, said: bytes, memory: Memory | None) -> Any:
    if kind not in (ARRAY, SHARED, NUMBER):
        raise WireError(f"extension type {kind} is unknown")
    parts = msgpack.unpackb(said)
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[0], str):
        raise WireError("an array is described by its type, shape and bytes")
    name, shape, where = parts
    if not DTYPE.fullmatch(name) or not isinstance(shape, list):
        raise WireError(f"an array of {name!r} of shape {shape!r} is not known")
    dtype, count = np.dtype(name), 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise WireError(f"an array of shape {shape!r}")
        count *= length
    if kind == SHARED:
        if memory is None or type(where) is not int or where < 0:
            raise WireError(f"an array at {where!r} of the shared memory")
        where = memory.read(where, count * dtype.itemsize)
    if not isinstance(where, (bytes, memoryview)) or len(where) != count * dtype.itemsize:
        raise WireError(f"an array of shape {shape} of {name} has bytes of another length")
    if not len(where):
        return np.zeros(shape, dtype)
    array = np.frombuffer(where, dtype).reshape(shape).copy()
    return array[()] if kind == NUMBER else array


class Channel:
    """Messages over a socket, each behind its length. wait: returns once there is more to read."""

    def __init__(self, connection: socket.socket, wait: Callable[[], None] | None = None) -> None:
        self.connection, self._wait = connection, wait

    def send(self, data: bytes) -> None:
        self.connection.sendall(LENGTH.pack(len(data)) + data)

    def receive(self) -> bytes | None:
        """The next message; None where the other side has ended."""
        head = self._exactly(LENGTH.size)
        if head is None:
            return None
        size = LENGTH.unpack(head)[0]
        if size > LARGEST:
            raise WireError(f"a message of {size} bytes: {LARGEST} are allowed")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            if self._wait is not None:
                self._wait()
            part = self.connection.recv(min(size - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return bytes(data)


def plain(value: Any, lenient: bool = False) -> Any:
    """With texts as keys of dicts. lenient: what cannot be sent is left out of them."""
    if not isinstance(value, dict) and not hasattr(value, "items"):
        return value
    found = {str(key): plain(part, lenient) for key, part in value.items()}
    return {key: part for key, part in found.items() if not lenient or _can_be_sent(part)}


def _can_be_sent(value: Any) -> bool:
    try:
        pack(value)
    except WireError:
        return False
    return True
