"""One array of a dataset, read frame by frame without ever inventing one."""

from collections import OrderedDict
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.zarr.chunks import ChunkMap
from dipole.data.store.zarr.decoding import chunk_decoder
from dipole.data.store.zarr.layout import ArrayLayout
from dipole.data.store.zarr.tree import Tree


class ChunkCache:
    """Decoded chunks, the most recently used ones, up to a number of bytes."""

    def __init__(self, limit_bytes: int = 64 * 2**20) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._blocks: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()

    def get(self, key: tuple[str, int]) -> np.ndarray | None:
        if key in self._blocks:
            self._blocks.move_to_end(key)
        return self._blocks.get(key)

    def put(self, key: tuple[str, int], block: np.ndarray) -> None:
        if block.nbytes > self._limit // 2:
            return
        self._blocks[key] = block
        self._used += block.nbytes
        while self._used > self._limit:
            self._used -= self._blocks.popitem(last=False)[1].nbytes


class ZarrArray(LazyArray):
    """An array [frames, ...] in its chunks.

    The first axis is frames. Every read looks first whether the chunks exist and verifies their
    checksums: a missing or damaged chunk raises DataError with the array's name and the frames.
    """

    def __init__(self, files: Tree, layout: ArrayLayout, cache: ChunkCache | None = None) -> None:
        self._files = files
        self._layout = layout
        self._cache = cache or ChunkCache()
        self._chunks = ChunkMap(files, layout)
        self._decode_chunk = chunk_decoder(layout)
        self._array: Any = None
        self.name = layout.name.removeprefix("data/")
        self.shape = layout.shape
        self.dtype = layout.dtype.newbyteorder("=")
        self.chunk_length = layout.chunk[0]
        self.n_chunks = -(-self.shape[0] // self.chunk_length)

    def read(self, start: int, stop: int) -> np.ndarray:
        self._check_blocks(range(start // self.chunk_length, -(-stop // self.chunk_length)))
        frames = np.empty((stop - start, *self.shape[1:]), self.dtype)
        piece = self._layout.shard[0]  # one shard at a time: whole files, bounded memory
        at = start
        while at < stop:
            end = min(stop, (at // piece + 1) * piece)
            frames[at - start : end - start] = self._decode(at, end)
            at = end
        return frames

    def take(self, frames: np.ndarray) -> np.ndarray:
        """As for every LazyArray; recently decoded chunks are remembered."""
        wanted, order = self._wanted(frames)
        taken = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        blocks, starts = np.unique(wanted // self.chunk_length, return_index=True)
        ends = [*starts[1:], len(wanted)]
        for block, start, end in zip(blocks.tolist(), starts, ends, strict=True):
            inside = wanted[start:end] - block * self.chunk_length
            taken[order[start:end]] = self.block(block)[inside]
        return taken.reshape(*np.shape(frames), *self.shape[1:])

    def block(self, block: int) -> np.ndarray:
        """The frames of one row of chunks, [at most chunk_length, ...]; do not write into it."""
        key = (self._layout.name, block)
        decoded = self._cache.get(key)
        if decoded is None:
            start = block * self.chunk_length
            self._check_blocks(range(block, block + 1))
            decoded = self._decode(start, min(start + self.chunk_length, len(self)))
            self._cache.put(key, decoded)
        return decoded

    def problem(self, block: int) -> str | None:
        return self._chunks.problem(block)

    def verify_last_chunk(self) -> None:
        if self.n_chunks:
            self._check_blocks(range(self.n_chunks - 1, self.n_chunks))

    def _check_blocks(self, blocks: range) -> None:
        for block in blocks:
            problem = self._chunks.problem(block)
            if problem is not None:
                raise self._error(block, problem)

    def _decode(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) of chunks that are there."""
        if self._decode_chunk is None:
            return self._decode_by_zarr(start, stop)
        decoded = []
        for block in range(start // self.chunk_length, -(-stop // self.chunk_length)):
            first = block * self.chunk_length
            try:
                frames = self._decode_block(block)
            except Exception as error:  # codecs raise whatever they like at a damaged chunk
                raise self._error(block, f"its chunk is damaged ({error})") from error
            decoded.append(frames[max(start - first, 0) : stop - first])
        return decoded[0] if len(decoded) == 1 else np.concatenate(decoded)

    def _decode_block(self, block: int) -> np.ndarray:
        assert self._decode_chunk is not None
        chunks = [*self._chunks.chunks(block)]
        if len(chunks) == 1 and self._layout.chunk[1:] == self.shape[1:]:
            only = self._decode_chunk(self._chunks.stored(chunks[0]))
            return np.asarray(only, self.dtype)
        frames = np.empty((self.chunk_length, *self.shape[1:]), self.dtype)
        for chunk in chunks:
            others = [
                slice(at * size, min((at + 1) * size, whole))
                for at, size, whole in zip(
                    chunk[1:], self._layout.chunk[1:], self.shape[1:], strict=True
                )
            ]
            kept = tuple(slice(0, part.stop - part.start) for part in others)
            values = self._decode_chunk(self._chunks.stored(chunk))
            frames[(slice(None), *others)] = values[(slice(None), *kept)]
        return frames

    def _decode_by_zarr(self, start: int, stop: int) -> np.ndarray:
        try:
            if self._array is None:
                import zarr

                self._array = zarr.open_array(
                    self._files.zarr_store(),
                    path=self._layout.name,
                    mode="r",
                    zarr_format=self._layout.zarr_format,
                )
            return np.asarray(self._array[start:stop], self.dtype)
        except Exception as error:  # codecs raise whatever they like at a damaged chunk
            first, last = start // self.chunk_length, (stop - 1) // self.chunk_length
            if first == last:
                raise self._error(first, f"its chunk is damaged ({error})") from error
            for block in range(first, last + 1):  # find the one to name
                self._decode_by_zarr(
                    max(start, block * self.chunk_length),
                    min(stop, (block + 1) * self.chunk_length),
                )
            raise self._error(first, f"they cannot be read at once ({error})") from error

    def _error(self, block: int, problem: str) -> DataError:
        start = block * self.chunk_length
        last = min(start + self.chunk_length, len(self)) - 1
        return DataError(
            f"{self._files.path}: array {self.name!r}, frames {start} to {last}: {problem}. "
            "Copy or download the dataset again, or leave out the episodes of these frames"
        )
