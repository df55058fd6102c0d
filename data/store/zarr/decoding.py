"""Chunks to numbers, without zarr in between, and without believing what a chunk says of its size.

zarr needs about a millisecond for a chunk, most of it bookkeeping; a window wants two frames, so
that is most of what loading costs. How many bytes come out of every step is known from the
metadata, and no step may give more (`expand.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.expand import EXPAND
from dipole.data.store.zarr.image_codec import CODECS, decode_image
from dipole.data.store.zarr.layout import ArrayLayout

Decode = Callable[[bytes], np.ndarray]
Step = Callable[[Any], Any]

# Codecs of numcodecs that leave the number of entries as it is, in the type that `astype` names.
_RETYPING = frozenset({"delta", "fixedscaleoffset", "quantize", "bitround"})
_CHECKSUMS = frozenset({"crc32c", "crc32", "adler32", "fletcher32"})  # four bytes more


@dataclass(frozen=True)
class _Stage:
    """What a chunk is between two codecs. n_bytes: its size; dtype: of its entries."""

    n_bytes: int
    dtype: np.dtype[Any]


def chunk_decoder(layout: ArrayLayout) -> Decode:
    """Bytes of a stored chunk → array of the chunk's shape.

    Raises DataError for codecs, or settings of theirs, that are not read. The function raises
    ValueError, or what the codec raises, for bytes that are damaged.
    """
    codecs = [(name.removeprefix("numcodecs."), settings) for name, settings in layout.codecs]
    checked = layout.zarr_format == 3 and bool(codecs) and codecs[-1][0] == "crc32c"
    if checked:
        codecs.pop()
    decode = _image(layout, codecs) or _numbers(layout, codecs)
    return (lambda raw: decode(without_checksum(raw))) if checked else decode


def without_checksum(raw: bytes) -> bytes:
    """The bytes before a crc32c, which must be theirs; raises ValueError where it is not."""
    import google_crc32c

    content = raw[:-4]
    if len(raw) < 4 or google_crc32c.value(content) != int.from_bytes(raw[-4:], "little"):
        raise ValueError("its checksum is not that of its bytes")
    return content


def _image(layout: ArrayLayout, codecs: Sequence[tuple[str, Mapping[str, Any]]]) -> Decode | None:
    if not any(name in CODECS for name, _ in codecs):
        return None
    alone = len(codecs) == 1 and layout.chunk[0] == 1 and len(layout.chunk) == 4
    if not alone or layout.dtype != np.uint8:
        raise DataError(
            f"images in chunks of {list(layout.chunk)} of {layout.dtype} through "
            f"{[name for name, _ in codecs]} are not read: one uint8 frame [1, height, width, "
            "channels] a chunk is"
        )
    name, shape = CODECS[codecs[0][0]], layout.chunk
    return lambda raw: decode_image(raw, name, shape[1:]).reshape(shape)


def _numbers(layout: ArrayLayout, codecs: Sequence[tuple[str, Mapping[str, Any]]]) -> Decode:
    """A chain of codecs, undone from its end."""
    stage = _Stage(math.prod(layout.chunk) * layout.dtype.itemsize, layout.dtype)
    order: Literal["C", "F"] = "C" if layout.c_order else "F"
    axes: tuple[int, ...] | None = None
    steps: list[Step] = []
    for name, settings in codecs:
        if name in ("bytes", "endian"):
            big = settings.get("endian") == "big"
            stage = _Stage(stage.n_bytes, stage.dtype.newbyteorder(">" if big else "<"))
            last = stage.dtype
        elif name == "transpose":
            axes = _axes(settings, len(layout.chunk))
        else:
            step, stage = _undo(name, settings, stage)
            steps.append(step)
    dtype = last if layout.zarr_format == 3 else layout.dtype
    stored_shape = layout.chunk if axes is None else tuple(layout.chunk[axis] for axis in axes)
    n_bytes = math.prod(layout.chunk) * layout.dtype.itemsize

    def decode(raw: Any) -> np.ndarray:
        for step in reversed(steps):
            raw = step(raw)
        if memoryview(raw).nbytes != n_bytes:
            size = memoryview(raw).nbytes
            raise ValueError(f"it holds {size:,} bytes, {n_bytes:,} by the metadata")
        numbers: np.ndarray = np.frombuffer(raw, dtype).reshape(stored_shape, order=order)
        return numbers if axes is None else numbers.transpose(np.argsort(axes))

    return decode


def _undo(name: str, settings: Mapping[str, Any], stage: _Stage) -> tuple[Step, _Stage]:
    """The step that undoes a codec, and what is before it in the chain."""
    if name in EXPAND:
        expand, n_bytes = EXPAND[name], stage.n_bytes
        return lambda raw: expand(raw, n_bytes, settings), _Stage(-1, stage.dtype)
    if stage.n_bytes < 0:
        if name in _CHECKSUMS:
            return _numcodec(name, settings), stage
        raise DataError(f"codec {name!r} behind a compression is not read; write the array again")
    if name in _CHECKSUMS:
        return _numcodec(name, settings), _Stage(stage.n_bytes + 4, stage.dtype)
    if name == "shuffle":
        return _numcodec(name, settings), stage
    if name == "packbits":
        return _numcodec(name, settings), _Stage(1 + -(-stage.n_bytes // 8), np.dtype(np.uint8))
    if name in _RETYPING:
        entries = stage.n_bytes // stage.dtype.itemsize
        dtype = np.dtype(settings.get("astype", settings.get("dtype", stage.dtype)))
        return _numcodec(name, {"dtype": stage.dtype.str, **settings}), _Stage(
            entries * dtype.itemsize, dtype
        )
    raise DataError(f"codec {name!r} is not read; write the array again")


def _numcodec(name: str, settings: Mapping[str, Any]) -> Step:
    """The decoder of a codec of numcodecs: of those that neither execute nor grow."""
    import numcodecs

    kept = {key: value for key, value in settings.items() if key != "id"}
    try:
        codec = numcodecs.get_codec({"id": name, **kept})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"codec {name!r} with {kept} is not read ({error})") from error
    decode: Step = codec.decode
    return decode


def _axes(settings: Mapping[str, Any], n_axes: int) -> tuple[int, ...]:
    order = settings.get("order")
    axes = {"C": [*range(n_axes)], "F": [*range(n_axes)][::-1]}.get(str(order), order)
    if not isinstance(axes, list) or sorted(map(str, axes)) != sorted(map(str, range(n_axes))):
        raise DataError(f"a transposition by {order!r} of {n_axes} axes")
    return tuple(int(axis) for axis in axes)
