"""Which chunks of an HDF5 array are there, and bounds on what compressed ones become.

HDF5 itself has none: a chunk of a few kilobytes can be made to become gigabytes, whatever the array
says of its size, and a chunk that was never written reads as zeros.
"""

import itertools
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

LARGEST_CHUNK = 256 * 2**20  # bytes, decompressed
LARGEST_LZF_CHUNK = 16 * 2**20  # becomes 88 times as much at most
HARMLESS = 32 * 2**10  # bytes, compressed: deflate makes 1032 times as much of it at most
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF, _SCALE_OFFSET = 1, 2, 3, 32000, 6
_KNOWN = {_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF, _SCALE_OFFSET}


def chunk_problem(array: Any) -> str:
    """Why an array's chunks may not be read, or "". array: An open h5py.Dataset."""
    if array.chunks is None:
        return ""
    filters = _filters(array)
    unknown = set(filters) - _KNOWN
    if unknown:
        return f"is compressed by a filter that is not read (number {min(unknown)})"
    limit = LARGEST_LZF_CHUNK if _LZF in filters else LARGEST_CHUNK
    if _chunk_bytes(array) > limit:
        return f"has chunks of {_chunk_bytes(array):,} bytes, more than {limit:,}"
    return ""


def stored_chunks(array: Any) -> dict[tuple[int, ...], int]:
    """Bytes of each stored chunk by its offset; {} for an array without chunks."""
    sizes: dict[tuple[int, ...], int] = {}
    if array.chunks is not None:
        array.id.chunk_iter(lambda chunk: sizes.__setitem__(chunk.chunk_offset, chunk.size))
    return sizes


def check_frames(array: Any, start: int, stop: int, sizes: Mapping[tuple[int, ...], int]) -> None:
    """Raise ValueError if frames [start, stop) were never written, which HDF5 reads as its fill
    value, or a chunk of theirs becomes larger than a chunk is.

    sizes: As `stored_chunks` gives them.
    """
    if array.chunks is None:
        if stop > start and not array.id.get_storage_size():
            raise ValueError("they were never written")
        return
    size, deflated = _chunk_bytes(array), _DEFLATE in _filters(array)
    first = range(start - start % array.chunks[0], stop, array.chunks[0])
    rest = [range(0, n, step) for n, step in zip(array.shape[1:], array.chunks[1:], strict=True)]
    for offset in itertools.product(first, *rest):
        stored = sizes.get(offset, 0)
        if not stored:
            raise ValueError(f"frame {offset[0]} and those after it were never written")
        if not deflated or stored <= HARMLESS:
            continue
        if stored > size + size // 100 + 2**10:
            raise ValueError(f"a chunk of {size:,} bytes is stored in {stored:,}")
        mask, raw = array.id.read_direct_chunk(offset)
        if _filters(array)[-1] == _FLETCHER32 and not mask >> (len(_filters(array)) - 1) & 1:
            raw = raw[:-4]
        if mask >> _filters(array).index(_DEFLATE) & 1:
            continue  # this chunk was stored without it
        inflated = zlib.decompressobj()
        if len(inflated.decompress(raw, size + 5)) > size + 4:
            raise ValueError(f"a chunk of {size:,} bytes becomes larger than that")


def _filters(array: Any) -> list[int]:
    settings = array.id.get_create_plist()
    return [int(settings.get_filter(n)[0]) for n in range(settings.get_nfilters())]


def _chunk_bytes(array: Any) -> int:
    return int(np.prod(array.chunks, dtype=object)) * int(array.dtype.itemsize)
