"""A recording: a file of records, appended one by one, each whole or not there.

    file       "dipole recording 2" and a line end, then records
    record     length of what follows (8 bytes), its CRC-32 (4 bytes), length of the header (4
               bytes), header, arrays; numbers little-endian
    header     JSON {"kind": ..., "values": {...}, "arrays": [[name, dtype, shape], ...]}, and
               "missing": {kind: count} where records directly before this one were dropped
    arrays     their bytes, in that order

Format 1 is the same container, made when limits ran at the policy's rate; it knows no "missing".
Nothing in it is executed when it is read. A file that ends in the middle of a record, because the
computer lost its power, is read up to there.
"""

import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import DataError

MAGIC = b"dipole recording 2\n"
FORMATS = {b"dipole recording 1\n": 1, MAGIC: 2}
PREFIX = struct.Struct("<QII")
LARGEST = 1 << 30  # bytes of a record
LARGEST_HEADER = 1 << 22
DTYPES = {
    np.dtype(code).newbyteorder("<").str: np.dtype(code)
    for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
# What a record of a kind has to say: what reads it relies on these.
NEEDED: Mapping[str, Mapping[str, type]] = {
    "begin": {"robot": dict, "loop": dict, "policy": dict},
    "act": {"now": float, "hold": str},
    "command": {"now": float},
    "state": {"time": float, "state": str, "reason": str},
    "result": {"ticket": dict, "error": str, "seconds": float},
}


@dataclass(frozen=True)
class Record:
    """One thing that happened: its kind, plain values, and arrays by name.

    missing: Records directly before this one that are not in the file, {kind: count}.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)


def parts(record: Record) -> list[memoryview]:
    """The record's bytes, in pieces; arrays are not copied.

    Raises TypeError for values that cannot be recorded, ValueError for too many of them.
    """
    arrays = {name: _storable(array) for name, array in record.arrays.items()}
    listed = [[name, a.dtype.newbyteorder("<").str, list(a.shape)] for name, a in arrays.items()]
    told: dict[str, Any] = {"kind": record.kind, "values": record.values, "arrays": listed}
    if record.missing:
        told["missing"] = dict(record.missing)
    header = json.dumps(told, default=_plain).encode()
    body = [memoryview(header), *(a.reshape(-1).view(np.uint8).data for a in arrays.values())]
    length, checksum = 0, 0
    for part in body:
        length, checksum = length + part.nbytes, zlib.crc32(part, checksum)
    if length > LARGEST or len(header) > LARGEST_HEADER:
        raise ValueError(f"a record of {length} bytes is too large to be read again")
    return [memoryview(PREFIX.pack(length, checksum, len(header))), *body]


def pack(record: Record) -> bytes:
    """The record's bytes."""
    return b"".join(parts(record))


def read_format(path: Path) -> int:
    """Which format a file is in, 1 or 2; raises DataError for anything else."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    if start not in FORMATS:
        raise DataError(f"{path}: not a dipole recording, or one of a newer dipole")
    return FORMATS[start]


def read_recording(path: Path) -> Iterator[Record]:
    """The records of a file, in order. Raises DataError where it is damaged.

    Whatever the file claims, no more memory is taken than a few times its size.
    """
    read_format(path)
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        number = 0
        while (body := _body(f"{path}: record {number}", file)) is not None:
            yield _unpack(f"{path}: record {number}", *body)
            number += 1


def has_end(path: Path) -> bool:
    """Whether a recording's last record is its "end", which a process that is killed does not
    write; records are skipped, not read."""
    size, last = path.stat().st_size, (0, 0)
    with path.open("rb") as file:
        place = len(MAGIC)
        while place + PREFIX.size <= size:
            file.seek(place)
            length, _, header_length = PREFIX.unpack(file.read(PREFIX.size))
            place, last = place + PREFIX.size + length, (place, header_length)
        file.seek(last[0] + PREFIX.size)
        header = file.read(min(last[1], LARGEST_HEADER))
    return place == size and header.startswith(b'{"kind": "end"')


def _body(where: str, file: BinaryIO) -> tuple[bytes, int] | None:
    """The next record's header and arrays, and the header's length; None at the end."""
    prefix = file.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    length, checksum, header_length = PREFIX.unpack(prefix)
    if not any(prefix) and _only_zeros(file):  # a file system lost what was written last
        return None
    if not 0 < header_length <= min(length, LARGEST_HEADER) or length > LARGEST:
        raise DataError(f"{where} is damaged (its length is {length})")
    left = os.fstat(file.fileno()).st_size - file.tell()
    body = file.read(min(length, left))
    if len(body) < length:
        _check_cut(where, body, length, header_length)
        return None
    if zlib.crc32(body) != checksum:
        raise DataError(f"{where} is damaged (its checksum differs)")
    return body, header_length


def _check_cut(where: str, body: bytes, length: int, header_length: int) -> None:
    """Raise DataError where a record is not cut off, but says a wrong length."""
    if len(body) < header_length:
        return
    arrays = _listed(where, _header(where, body[:header_length]))
    if header_length + sum(size for *_, size in arrays) != length:
        raise DataError(f"{where} is damaged (its length is {length})")


def _unpack(where: str, body: bytes, header_length: int) -> Record:
    header = _header(where, body[:header_length])
    listed = _listed(where, header)
    if header_length + sum(size for *_, size in listed) != len(body):
        raise DataError(f"{where}: its arrays do not fill it")
    arrays, start = {}, header_length
    for name, dtype, shape, size in listed:
        array = np.frombuffer(body, dtype.newbyteorder("<"), size // dtype.itemsize, start)
        arrays[name] = array.astype(dtype).reshape(shape)
        start += size
    missing = header.get("missing", {})
    if not isinstance(missing, dict) or not all(type(n) is int for n in missing.values()):
        raise DataError(f"{where}: missing is {missing!r}")
    return Record(header["kind"], header["values"], arrays, missing)


def _header(where: str, data: bytes) -> dict[str, Any]:
    """The header, of which `kind` is a text and `values` hold what the kind needs."""
    try:
        header = json.loads(data)
        kind, values = header["kind"], header["values"]
        if not isinstance(kind, str) or not isinstance(values, dict):
            raise TypeError("kind is no text, or values are no table")
        for name, needed in NEEDED.get(kind, {}).items():
            if needed is float:
                values[name] = float(values[name])
            elif not isinstance(values[name], needed):
                raise TypeError(f"{name} is {type(values[name]).__name__}")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{where} cannot be read: {error!r}") from error
    return dict(header)


def _listed(
    where: str, header: Mapping[str, Any]
) -> list[tuple[str, np.dtype[Any], list[int], int]]:
    """Name, dtype, shape and bytes of each array of a header."""
    try:
        listed = []
        for name, code, shape in header["arrays"]:
            if code not in DTYPES:
                raise DataError(f"{where}: array {name!r} has dtype {code}")
            if not isinstance(name, str) or not _is_shape(shape):
                raise DataError(f"{where}: array {name!r} has shape {shape}")
            listed.append((name, DTYPES[code], shape, math.prod(shape) * DTYPES[code].itemsize))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} cannot be read: {error!r}") from error
    return listed


def _is_shape(shape: Any) -> bool:
    few = isinstance(shape, list) and len(shape) <= 32
    return few and all(type(n) is int and 0 <= n <= LARGEST for n in shape)


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """The same, contiguous and little-endian; it is copied only where it was not."""
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        raise TypeError(f"arrays of dtype {array.dtype} are not recorded")
    return np.asarray(array, dtype, order="C")


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not recorded")


def _only_zeros(file: BinaryIO) -> bool:
    """Whether nothing but zeros follows; the place in the file stays where it was."""
    place = file.tell()
    blank = not any(any(block) for block in iter(lambda: file.read(1 << 16), b""))
    file.seek(place)
    return blank
