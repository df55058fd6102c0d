"""Which chunks of an array are really there, and the bytes of each."""

import itertools
import math
import struct
from collections.abc import Iterable, Iterator

import numpy as np

from dipole.data.core.errors import DataError, StorageError
from dipole.data.store.zarr.decoding import without_checksum
from dipole.data.store.zarr.layout import ArrayLayout
from dipole.data.store.zarr.tree import FileRange, Tree

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
        self._asked: set[int] = set()  # blocks that were prefetched and stay at hand
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
        state = self._shard(self._place(chunk)[0])
        if isinstance(state, str):
            raise ValueError(state)
        found = self._range(chunk, last)
        return b"" if found is None else self._files.read(*found)

    def prefetch(self, blocks: Iterable[int], last: int | None = None) -> None:
        """Have the chunks of these blocks fetched in the background, or the last bytes of each.

        Waits for the indices of their shards, which say where the chunks are.
        """
        if self._files.keeps_all:
            blocks = [block for block in blocks if block not in self._asked]
            if last is None:
                self._asked.update(blocks)
        chunks = [chunk for block in blocks for chunk in self.chunks(block)]
        if not chunks:
            return
        self._prefetch_indices({self._place(chunk)[0]: None for chunk in chunks})
        self._files.prefetch([*filter(None, (self._range(chunk, last) for chunk in chunks))])

    def forget(self, chunk: tuple[int, ...]) -> None:
        """Read the bytes of a chunk anew, should they be asked for."""
        found = self._range(chunk)
        if found is not None:
            self._files.forget(*found)

    def _prefetch_indices(self, cells: Iterable[tuple[int, ...]]) -> None:
        length = self._layout.index_bytes
        ranges = []
        for cell in cells:
            name = self._layout.file(cell)
            if length and cell not in self._shards and (size := self._files.size(name)):
                start = max(size - length, 0) if self._layout.index_at_end else 0
                ranges.append(FileRange(name, start, length))
        self._files.prefetch(ranges)

    def _range(self, chunk: tuple[int, ...], last: int | None = None) -> FileRange | None:
        """Where the bytes of a chunk are, or the last of them; None where there is none."""
        cell, inside = self._place(chunk)
        state = self._shard(cell)
        if isinstance(state, str) or not state[inside][1]:
            return None
        offset, size = state[inside].tolist()
        if last is not None and last < size:
            offset, size = offset + size - last, last
        return FileRange(self._layout.file(cell), offset, size)

    def _place(self, chunk: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shard that a chunk is in, and its place there."""
        cell = tuple(c // per for c, per in zip(chunk, self._per_shard, strict=True))
        inside = tuple(c % per for c, per in zip(chunk, self._per_shard, strict=True))
        return cell, inside

    def _shard(self, cell: tuple[int, ...]) -> "str | np.ndarray":
        state = self._shards.get(cell)  # once: another thread may clear it
        if state is None:
            if len(self._shards) >= _SHARDS_REMEMBERED:
                self._shards.clear()
            try:
                state = self._look(cell)
            except StorageError:
                raise
            except DataError:
                state = "lies outside the dataset, so it is not opened"
            self._shards[cell] = state
        return state

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
                raw = self._checked_index(cell, raw, start)
            except ValueError:
                return "has an index whose checksum is wrong: it is damaged or cut short"
        entries = np.frombuffer(raw, "<u8").reshape(*self._per_shard, 2).copy()
        offset, count = entries[..., 0], entries[..., 1]
        absent = (offset == _EMPTY) | (offset + count > np.uint64(size))
        count[absent] = 0
        return entries

    def _checked_index(self, cell: tuple[int, ...], raw: bytes, start: int) -> bytes:
        """The index without its checksum; what came over a network is read once more before it is
        taken for damaged. Raises ValueError."""
        try:
            return without_checksum(raw)
        except ValueError:
            if not self._files.remote:
                raise
        name, length = self._layout.file(cell), self._layout.index_bytes
        self._files.forget(name, start, length)
        return without_checksum(self._files.read(name, start, length))

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
        except StorageError:
            raise
        except Exception as error:  # a damaged zip member: whatever zipfile says of it
            return f"cannot be read ({error})"
