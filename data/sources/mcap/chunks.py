"""Bounds on what the chunks of an MCAP file become, before the library decompresses them.

The decompressor believes the chunk's own frame, which may say gigabytes whatever the file says.
"""

import struct
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from dipole.data.core.errors import DataError

LARGEST_CHUNK = 2**30  # bytes, decompressed
_RECORD = 9  # bytes before a record's fields
_FIELDS = struct.Struct("<QQQII")  # start, end, uncompressed bytes, crc, bytes of the compression
_LZ4_EXPANSION = 255  # at most


def check_chunks(file: Path, opened: BinaryIO, summary: Any) -> None:
    """Raise DataError unless every chunk that the file's index names is of bounded size.

    A file without an index is refused: it cannot be looked through beforehand.
    """
    if summary is None or (not summary.chunk_indexes and summary.statistics is None):
        raise DataError(f"{file}: no index of its chunks. `mcap recover` writes one")
    statistics = summary.statistics
    if not summary.chunk_indexes and statistics is not None and statistics.chunk_count:
        raise DataError(f"{file}: no index of its chunks. `mcap recover` writes one")
    for index in summary.chunk_indexes:
        opened.seek(index.chunk_start_offset + _RECORD)
        _, _, claimed, _, name_length = _FIELDS.unpack(opened.read(_FIELDS.size))
        name = opened.read(min(name_length, 64))
        stored = struct.unpack("<Q", opened.read(8))[0]
        size = max(claimed, _frame_size(name, opened.read(19), stored))
        if size > LARGEST_CHUNK or (name and size > claimed):
            raise DataError(f"{file}: a chunk of {claimed:,} bytes becomes {size:,}, refused")
    opened.seek(0)


def _frame_size(compression: bytes, head: bytes, stored: int) -> int:
    """Bytes that decompressing gives at most, as far as not bounded by the caller."""
    if compression == b"zstd":
        import zstandard

        return max(int(zstandard.frame_content_size(head)), 0)  # -1: bounded by what is claimed
    if compression == b"lz4":
        said = int(import_module("lz4.frame").get_frame_info(head)["content_size"])
        return said if said or stored < LARGEST_CHUNK // _LZ4_EXPANSION else LARGEST_CHUNK + 1
    return 0
