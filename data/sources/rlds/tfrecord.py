"""TFRecord files and the tf.train.Example in each record, without TensorFlow.

A record is: length uint64, crc32c of it, the bytes, crc32c of them; checksums are masked
(tensorflow/core/lib/io/record_writer.h). An Example is a protocol buffer: map<string, Feature>,
where a feature is a list of bytes, of floats or of int64 (tensorflow/core/example/feature.proto).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError

Feature = list[bytes] | np.ndarray  # float32 or int64 [N]

LARGEST_RECORD = 4 * 2**30  # bytes of one episode
_HEADER = struct.Struct("<QI")


def record_places(path: Path) -> list[tuple[int, int]]:
    """(offset, bytes) of each record's content; raises DataError where the file is cut short."""
    places: list[tuple[int, int]] = []
    size = path.stat().st_size
    with open(path, "rb") as file:
        at = 0
        while at < size:
            file.seek(at)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise _damaged(path, len(places), "the file is cut short")
            length, checksum = _HEADER.unpack(header)
            if _masked_crc(header[:8]) != checksum:
                raise _damaged(path, len(places), "not a TFRecord, or damaged")
            if at + _HEADER.size + length + 4 > size:
                raise _damaged(path, len(places), "the file is cut short")
            if length > LARGEST_RECORD:
                raise _damaged(path, len(places), f"{length:,} bytes in one record")
            places.append((at + _HEADER.size, length))
            at += _HEADER.size + length + 4
    return places


def read_record(path: Path, offset: int, length: int, number: int) -> bytes:
    """The content of record `number`; raises DataError where it is damaged."""
    with open(path, "rb") as file:
        file.seek(offset)
        content, checksum = file.read(length), file.read(4)
    if len(content) < length or len(checksum) < 4:
        raise _damaged(path, number, "the file is cut short")
    if _masked_crc(content) != struct.unpack("<I", checksum)[0]:
        raise _damaged(path, number, "its checksum is wrong")
    return content


def is_tfrecord(path: Path) -> bool:
    """Whether a file begins with a TFRecord's header."""
    with open(path, "rb") as file:
        header = file.read(_HEADER.size)
    return len(header) == _HEADER.size and _masked_crc(header[:8]) == _HEADER.unpack(header)[1]


def parse_example(content: bytes, where: str) -> dict[str, Feature]:
    """The features of an Example by name; raises DataError, beginning with `where`."""
    features: dict[str, Feature] = {}
    try:
        view = memoryview(content)
        for number, value in _fields(view):
            if number != 1:
                continue
            for inner, entry in _fields(_bytes(value)):
                if inner == 1:
                    name, feature = _entry(_bytes(entry))
                    features[name] = feature
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not a tf.train.Example ({error})") from error
    return features


def _entry(entry: memoryview) -> tuple[str, Feature]:
    name, feature = "", memoryview(b"")
    for number, value in _fields(entry):
        if number == 1:
            name = bytes(_bytes(value)).decode()
        elif number == 2:
            feature = _bytes(value)
    return name, _feature(feature)


def _feature(feature: memoryview) -> Feature:
    for number, value in _fields(feature):
        values = _bytes(value)
        if number == 1:
            return [bytes(_bytes(item)) for inner, item in _fields(values) if inner == 1]
        if number == 2:
            return _floats(values)
        if number == 3:
            return _integers(values)
    return []


def _floats(values: memoryview) -> np.ndarray:
    """Packed, or one by one."""
    parts = [bytes(_bytes(item)) for inner, item in _fields(values) if inner == 1]
    return np.frombuffer(b"".join(parts), "<f4")


def _integers(values: memoryview) -> np.ndarray:
    numbers: list[int] = []
    for inner, item in _fields(values):
        if inner != 1:
            continue
        if isinstance(item, int):
            numbers.append(item)
            continue
        at = 0
        while at < len(item):
            number, at = _varint(item, at)
            numbers.append(number)
    return np.array(numbers, np.uint64).view(np.int64)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message's fields: int for varints, bytes for the others."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + length > len(message):
            raise ValueError("a field longer than its message")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _bytes(value: Any) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return memoryview(value)


def _masked_crc(content: bytes) -> int:
    import google_crc32c

    checksum = int(google_crc32c.value(content))
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _damaged(path: Path, number: int, why: str) -> DataError:
    return DataError(f"{path}: record {number}: {why}. Copy or download the file again")
