"""Decompression to a known number of bytes: whatever a chunk claims, no more is allocated.

A few kilobytes can claim to be gigabytes. Each function gives the bytes of a chunk, or raises
ValueError where they are more or fewer than `n_bytes`, or what its library raises for damage.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

LARGEST_DICTIONARY = 256 * 2**20  # bytes that lzma may want beside its output

Expand = Callable[[Any, int, Mapping[str, Any]], Any]


def _wrong_size(n_bytes: int) -> ValueError:
    return ValueError(f"it does not hold the {n_bytes:,} bytes of the metadata")


def _blosc(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    from numcodecs import blosc

    # Blosc believes its header, and reads past the end of bytes that were cut short.
    if len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw):
        raise ValueError(f"{len(raw):,} bytes, another number by its own header")
    if n_bytes >= 0 and int.from_bytes(raw[4:8], "little") != n_bytes:
        raise ValueError(f"another size by its own header than {n_bytes:,} bytes by the metadata")
    decoded: bytes = blosc.decompress(raw)
    return decoded


def _zstd(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    from numcodecs import zstd

    out = np.empty(n_bytes, np.uint8)  # a hostile header cannot make it larger
    zstd.decompress(raw, out)
    return out.tobytes()


def _lz4(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    from numcodecs import lz4

    if len(raw) < 4 or int.from_bytes(raw[:4], "little") != n_bytes:
        raise _wrong_size(n_bytes)
    decoded: bytes = lz4.decompress(raw)
    return decoded


def _zlib(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    return _stream(zlib.decompressobj(), raw, n_bytes)


def _gzip(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    return _stream(zlib.decompressobj(wbits=31), raw, n_bytes)


def _bz2(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    return _stream(bz2.BZ2Decompressor(), raw, n_bytes)


def _lzma(raw: Any, n_bytes: int, settings: Mapping[str, Any]) -> bytes:
    container = int(settings.get("format", lzma.FORMAT_XZ))
    if container == lzma.FORMAT_RAW:
        _check_raw_filters(settings.get("filters"))
        decompressor = lzma.LZMADecompressor(container, filters=settings.get("filters"))
    else:
        decompressor = lzma.LZMADecompressor(container, memlimit=LARGEST_DICTIONARY)
    return _stream(decompressor, raw, n_bytes)


def _check_raw_filters(filters: Any) -> None:
    """Without a container, the metadata says how large a dictionary is allocated."""
    for entry in filters or ():
        if int(entry.get("dict_size", 0)) > LARGEST_DICTIONARY:
            raise ValueError(f"a dictionary of {entry['dict_size']:,} bytes")


def _stream(decompressor: Any, raw: Any, n_bytes: int) -> bytes:
    # One byte more than there may be, to see whether there are more.
    decoded: bytes = decompressor.decompress(bytes(raw), n_bytes + 1)
    if len(decoded) != n_bytes or not decompressor.eof:
        raise _wrong_size(n_bytes)
    return decoded


EXPAND: dict[str, Expand] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "zlib": _zlib,
    "gzip": _gzip,
    "bz2": _bz2,
    "lzma": _lzma,
}
