"""Numbers to chunks, and what a new array says of itself: the counterpart of `decoding`.

We write shards ourselves because one shard is written over many episodes: its chunks are appended
to a file as they come, and a crash loses none that was committed. zarr writes a shard at once.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.image_codec import CODECS, encode_image
from dipole.data.store.zarr.layout import ArrayLayout

CHUNK_BYTES = 64 * 2**10  # what one random read decompresses; at least one frame
SHARD_BYTES = 32 * 2**20  # what one file holds, uncompressed
MOST_CHUNKS = 1024  # in a shard: its index stays below 16 KiB

Encode = Callable[[np.ndarray], bytes]


def group_metadata(attributes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The zarr.json of a group."""
    return {"attributes": attributes or {}, "zarr_format": 3, "node_type": "group"}


def array_metadata(
    shape: tuple[int, ...], dtype: np.dtype[Any], image_codec: str = ""
) -> dict[str, Any]:
    """The zarr.json of a new array without frames yet.

    shape: of one frame; image_codec: of `image_codec.CODECS`, or "" for Blosc.
    """
    frame_bytes = max(math.prod(shape) * dtype.itemsize, 1)
    chunk = 1 if image_codec else max(CHUNK_BYTES // frame_bytes, 1)
    chunks = min(max(SHARD_BYTES // (chunk * frame_bytes), 1), MOST_CHUNKS)
    sharding = {
        "chunk_shape": [chunk, *shape],
        "codecs": [*(_image(image_codec) if image_codec else _numbers(dtype)), {"name": "crc32c"}],
        "index_codecs": [_plain(np.dtype(np.uint64)), {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "shape": [0, *shape],
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk * chunks, *shape]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": {"b": False, "f": 0.0}.get(dtype.kind, 0),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _image(codec: str) -> list[dict[str, Any]]:
    return [{"name": codec}]


def _numbers(dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    blosc = {
        "typesize": dtype.itemsize,
        "cname": "zstd",
        "clevel": 5,
        "shuffle": "shuffle",
        "blocksize": 0,
    }
    return [_plain(dtype), {"name": "blosc", "configuration": blosc}]


def _plain(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def chunk_encoder(layout: ArrayLayout) -> Encode:
    """A whole chunk [chunk, *shape] → its bytes as stored, with their checksum.

    Raises DataError for an array in codecs that are not written here.
    """
    codecs = [*layout.codecs]
    names = [name for name, _ in codecs]
    whole_frames = layout.chunk[1:] == layout.shard[1:] == layout.shape[1:]
    if layout.zarr_format == 3 and layout.index_checked and layout.index_at_end and whole_frames:
        if names == ["bytes", "blosc", "crc32c"] and codecs[0][1].get("endian") != "big":
            return _checked(_blosc(layout, codecs[1][1]))
        if len(names) == 2 and names[0] in CODECS and names[1] == "crc32c" and layout.chunk[0] == 1:
            image_format = CODECS[names[0]]
            return _checked(lambda chunk: encode_image(chunk[0], image_format))
    raise DataError(
        f"array {layout.name!r} is stored in another way than ours ({', '.join(names) or 'plain'}),"
        " so nothing can be appended to it: convert the dataset first"
    )


def _blosc(layout: ArrayLayout, settings: dict[str, Any]) -> Encode:
    from numcodecs import Blosc

    shuffles = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE}
    shuffle = shuffles.get(str(settings.get("shuffle", "shuffle")), Blosc.BITSHUFFLE)
    blosc = Blosc(str(settings.get("cname", "zstd")), int(settings.get("clevel", 5)), shuffle)
    dtype = layout.dtype.newbyteorder("<")
    return lambda chunk: bytes(blosc.encode(np.ascontiguousarray(chunk, dtype)))


def _checked(encode: Encode) -> Encode:
    return lambda chunk: with_checksum(encode(chunk))


def with_checksum(raw: bytes) -> bytes:
    """The bytes and their crc32c, little-endian."""
    import google_crc32c

    return raw + struct.pack("<I", google_crc32c.value(raw))


def shard_index(sizes: Sequence[int], n_chunks: int) -> bytes:
    """The index that ends a shard of `n_chunks`, of which these were written one after another."""
    index = np.full((n_chunks, 2), 2**64 - 1, np.uint64)
    ends = np.cumsum(sizes, dtype=np.uint64)
    index[: len(sizes), 1] = sizes
    index[: len(sizes), 0] = ends - index[: len(sizes), 1]
    return with_checksum(index.astype("<u8").tobytes())
