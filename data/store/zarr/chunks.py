"""Which chunks of an array are really there, and the bytes of each."""

import itertools
import math
import struct
from collections.abc import Iterator

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.decoding import without_checksum
from dipole.data.store.zarr.layout import ArrayLayout
from dipole.data.store.zarr.tree import Tree

_EMPTY = np.uint64(2**64 - 1)  # the index of a shard says so of a chunk that was never written
_MISSING = "is missing"
_SHARDS_REMEMBERED = 4096


class ChunkMap:
    """Answers whether chunks exist, reading each shard's index once.

    A block is one row of the chunk grid: the chunks that hold the frames
    [block * rows, (block + 1) * rows) of every other axis.
    """

    def __init__(self, files: Tree, layout: ArrayLayout) -> None:
        self._files = files
        self._layout = layout
        # Of each shard: what is wrong with it, or [chunks, 2], offset and size of each chunk.
        self._shards: dict[tuple[int, ...], str | np.ndarray] = {}
        self._others = [
            -(-size // chunk)
            for size, chunk in zip(layout.shape[1:], layout.chunk[1:], strict=True)
        ]
        self._per_shard = tuple(s // c for s, c in zip(layout.shard, layout.chunk, strict=True))

    def chunk_error(self, block: int) -> str | None:
        """What is wrong with a block's files, as far as seen without decoding, or None."""
        for chunk in self.chunks(block):
            problem = self.cell_error(chunk)
            if problem is not None:
                return problem
        return None

    def cell_error(self, chunk: tuple[int, ...]) -> str | None:
        """As `chunk_error`, of one chunk."""
        cell, inside = self._place(chunk)
        file = self._layout.file(cell)
        state = self._shard(cell)
        if isinstance(state, str):
            return f"{file} {state}"
        if not state[inside][1]:
            return f"chunk {list(chunk)} is missing inside the shard {file}"
        if state[inside][1] > self._layout.most_stored_bytes:
            return f"{file} is too large for a chunk of {self._layout.chunk_bytes:,} bytes"
        return None

    def is_absent(self, chunk: tuple[int, ...]) -> bool:
        """Whether a chunk was never written, or is lost; False for one that is damaged."""
        cell, inside = self._place(chunk)
        state = self._shard(cell)
        if isinstance(state, str):
            return state == _MISSING
        return bool(state[inside][0] == _EMPTY)

    def chunks(self, block: int) -> Iterator[tuple[int, ...]]:
        """Coordinates in the grid of the chunks that make a block."""
        return itertools.product([block], *(range(n) for n in self._others))

    def size(self, chunk: tuple[int, ...]) -> int:
        """Bytes of a chunk as stored; its block must have no `chunk_error`."""
        cell, inside = self._place(chunk)
        state = self._shard(cell)
        return 0 if isinstance(state, str) else int(state[inside][1])

    def stored(self, chunk: tuple[int, ...], last: int | None = None) -> bytes:
        """The bytes of a chunk as stored, or the last of them; it must have no `cell_error`."""
        cell, inside = self._place(chunk)
        state = self._shard(cell)
        if isinstance(state, str):
            raise ValueError(state)
        offset, size = state[inside].tolist()
        if last is not None and last < size:
            offset, size = offset + size - last, last
        return self._files.read(self._layout.file(cell), offset, size)

    def _place(self, chunk: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shard that a chunk is in, and its place there."""
        cell = tuple(c // per for c, per in zip(chunk, self._per_shard, strict=True))
        inside = tuple(c % per for c, per in zip(chunk, self._per_shard, strict=True))
        return cell, inside

    def _shard(self, cell: tuple[int, ...]) -> "str | np.ndarray":
        if cell not in self._shards:
            if len(self._shards) >= _SHARDS_REMEMBERED:
                self._shards.clear()
            try:
                self._shards[cell] = self._look(cell)
            except DataError:
                self._shards[cell] = "lies outside the dataset, so it is not opened"
        return self._shards[cell]

    def _look(self, cell: tuple[int, ...]) -> "str | np.ndarray":
        """What is wrong with a shard, or where its chunks lie; a missing one has size 0."""
        size = self._files.size(self._layout.file(cell))
        if size is None:
            return _MISSING
        length = self._layout.index_bytes
        if not length:
            whole = np.broadcast_to(np.array([0, size], np.uint64), (*self._per_shard, 2))
            return self._blosc_problem(cell, size) or whole
        if size < length:
            return f"is cut short at {size:,} bytes"
        start = size - length if self._layout.index_at_end else 0
        raw = self._read(cell, start, length)
        if isinstance(raw, str):
            return raw
        if self._layout.index_checked:
            try:
                raw = without_checksum(raw)
            except ValueError:
                return "has an index whose checksum is wrong: it is damaged or cut short"
        entries = np.frombuffer(raw, "<u8").reshape(*self._per_shard, 2).copy()
        offset, count = entries[..., 0], entries[..., 1]
        absent = (offset == _EMPTY) | (offset + count > np.uint64(size))
        count[absent] = 0
        return entries

    def _blosc_problem(self, cell: tuple[int, ...], size: int) -> str | None:
        """What a Blosc frame's own header says against the file and the metadata.

        Blosc believes the header, and reads past the end of a file that was cut short.
        """
        if not self._layout.blosc:
            return None
        if size < 16:
            return f"is cut short at {size} bytes"
        raw = self._read(cell, 0, 16)
        if isinstance(raw, str):
            return raw
        decoded, _, encoded = struct.unpack("<III", raw[4:16])
        expected = math.prod(self._layout.chunk) * self._layout.dtype.itemsize
        if encoded != size:
            return f"is damaged: {size:,} bytes, {encoded:,} by its own header"
        if decoded != expected:
            return f"is damaged: it holds {decoded:,} bytes, {expected:,} by the metadata"
        return None

    def _read(self, cell: tuple[int, ...], start: int, length: int) -> bytes | str:
        """Bytes of a shard's file, or why they cannot be read."""
        try:
            return self._files.read(self._layout.file(cell), start, length)
        except Exception as error:  # a damaged zip member: whatever zipfile says of it
            return f"cannot be read ({error})"
