"""Chunks to numbers, without zarr in between.

zarr needs about a millisecond for a chunk, most of it bookkeeping; a window wants two frames, so
that is most of what loading costs. The chains of codecs that datasets really have are short, and
decoded here; for any other, zarr is asked.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dipole.data.store.zarr.image_codec import CODECS, decode_picture
from dipole.data.store.zarr.layout import ArrayLayout

Decode = Callable[[bytes], np.ndarray]


def chunk_decoder(layout: ArrayLayout) -> Decode | None:
    """Bytes of a stored chunk → array of the chunk's shape; None where only zarr can.

    The function raises ValueError, or what the codec raises, for bytes that are damaged.
    """
    codecs = [*layout.codecs]
    checked = bool(codecs) and codecs[-1][0] == "crc32c"
    if checked:
        codecs.pop()
    decode = _picture(layout, codecs) or _numbers(layout, codecs)
    if decode is None or not checked:
        return decode
    whole = decode
    return lambda raw: whole(without_checksum(raw))


def without_checksum(raw: bytes) -> bytes:
    """The bytes before a crc32c, which must be theirs; raises ValueError where it is not."""
    import google_crc32c

    content = raw[:-4]
    if len(raw) < 4 or google_crc32c.value(content) != int.from_bytes(raw[-4:], "little"):
        raise ValueError("its checksum is not that of its bytes")
    return content


def _picture(layout: ArrayLayout, codecs: list[tuple[str, dict[str, Any]]]) -> Decode | None:
    if len(codecs) != 1 or codecs[0][0] not in CODECS:
        return None
    name, shape = CODECS[codecs[0][0]], layout.chunk
    return lambda raw: decode_picture(raw, name, shape[1:]).reshape(shape)


def _numbers(layout: ArrayLayout, codecs: list[tuple[str, dict[str, Any]]]) -> Decode | None:
    """Plain numbers in C order, compressed by at most one codec."""
    if layout.zarr_format == 3:
        if not codecs or codecs.pop(0) not in _PLAIN:
            return None
    elif not layout.c_order:
        return None
    if len(codecs) > 1 or (codecs and codecs[0][0] not in _EXPAND):
        return None
    expand = _EXPAND[codecs[0][0]] if codecs else _as_they_are
    n_bytes = math.prod(layout.chunk) * layout.dtype.itemsize
    dtype = layout.dtype.newbyteorder("<") if layout.zarr_format == 3 else layout.dtype

    def decode(raw: bytes) -> np.ndarray:
        numbers = expand(raw, n_bytes)
        if len(numbers) != n_bytes:
            raise ValueError(f"it holds {len(numbers):,} bytes, {n_bytes:,} by the metadata")
        return np.frombuffer(numbers, dtype).reshape(layout.chunk)

    return decode


def _as_they_are(raw: bytes, n_bytes: int) -> bytes:
    return raw


def _blosc(raw: bytes, n_bytes: int) -> bytes:
    from numcodecs import blosc

    # Blosc believes its header, and reads past the end of bytes that were cut short.
    if len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw):
        raise ValueError(f"{len(raw):,} bytes, another number by its own header")
    if int.from_bytes(raw[4:8], "little") != n_bytes:
        raise ValueError(f"another size by its own header than {n_bytes:,} bytes by the metadata")
    decoded: bytes = blosc.decompress(raw)
    return decoded


def _zstd(raw: bytes, n_bytes: int) -> bytes:
    from numcodecs import zstd

    out = np.empty(n_bytes, np.uint8)  # a hostile header cannot make it larger
    zstd.decompress(raw, out)
    return out.tobytes()


_EXPAND: dict[str, Callable[[bytes, int], bytes]] = {"blosc": _blosc, "zstd": _zstd}
_LITTLE: dict[str, Any] = {"endian": "little"}
_NO_SETTINGS: dict[str, Any] = {}
_PLAIN = [("bytes", _LITTLE), ("bytes", _NO_SETTINGS)]
