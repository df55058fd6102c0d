"""A recording: a file of records, appended one by one, each whole or not there.

    record     length of what follows (8 bytes), its CRC-32 (4 bytes), length of the header (4
               bytes), header, arrays; numbers little-endian
    header     JSON {"kind": ..., ..., "arrays": [[name, dtype, shape], ...]}
    arrays     their bytes, in that order

Nothing in it is executed when it is read. A file that ends in the middle of a record, because the
computer lost its power, is read up to there.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.errors import DataError

MAGIC = b"dipole recording 1\n"
PREFIX = struct.Struct("<QII")
KINDS = "fiub"
LARGEST = 1 << 30


@dataclass(frozen=True)
class Record:
    """One thing that happened: its kind, plain values, and arrays by name."""

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def pack(record: Record) -> bytes:
    """The record's bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in record.arrays.items()}
    listed = [[name, a.dtype.newbyteorder("<").str, list(a.shape)] for name, a in arrays.items()]
    header = json.dumps({"kind": record.kind, "values": record.values, "arrays": listed}).encode()
    bodies = [a.astype(a.dtype.newbyteorder("<"), copy=False).tobytes() for a in arrays.values()]
    body = b"".join([header, *bodies])
    return PREFIX.pack(len(body), zlib.crc32(body), len(header)) + body


def read_recording(path: Path) -> Iterator[Record]:
    """The records of a file, in order. Raises DataError for a file that is damaged."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DataError(f"{path}: not a dipole recording")
        number = 0
        while len(prefix := file.read(PREFIX.size)) == PREFIX.size:
            length, checksum, header_length = PREFIX.unpack(prefix)
            if length > LARGEST or header_length > length:
                raise DataError(f"{path}: record {number} is damaged (its length is {length})")
            body = file.read(length)
            if len(body) < length:
                return  # the end of a recording that was cut off
            if zlib.crc32(body) != checksum:
                raise DataError(f"{path}: record {number} is damaged (its checksum differs)")
            yield _unpack(f"{path}: record {number}", body, header_length)
            number += 1


def _unpack(where: str, body: bytes, header_length: int) -> Record:
    try:
        header = json.loads(body[:header_length])
        arrays, start = {}, header_length
        for name, code, shape in header["arrays"]:
            dtype = np.dtype(code)
            if dtype.kind not in KINDS:
                raise DataError(f"{where}: array {name!r} has dtype {code}")
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(body, dtype, count, start)
            arrays[name] = array.reshape(shape).astype(dtype.newbyteorder("="))
            start += count * dtype.itemsize
        return Record(str(header["kind"]), dict(header["values"]), arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} cannot be read: {error}") from error
