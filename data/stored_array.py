"""One array of a dataset, read frame by frame without ever inventing one."""

from collections import OrderedDict
from typing import Any

import numpy as np

from dipole.data.errors import DataError
from dipole.data.formats.chunks import ChunkMap
from dipole.data.formats.files import Files
from dipole.data.formats.layout import ArrayLayout


class BlockCache:
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


class StoredArray:
    """An array [frames, ...] in its files; indexing reads, as numpy would answer.

    The first axis is frames. Every read looks first whether the chunks exist and lets zarr verify
    checksums: a missing or damaged chunk raises DataError with the array's name and the frames.
    """

    def __init__(self, files: Files, layout: ArrayLayout, cache: BlockCache | None = None) -> None:
        self._files = files
        self._layout = layout
        self._cache = cache or BlockCache()
        self._chunks = ChunkMap(files, layout)
        self._array: Any = None
        self.name = layout.name.removeprefix("data/")
        self.shape = layout.shape
        self.dtype = layout.dtype.newbyteorder("=")
        self.block_frames = layout.chunk[0]
        self.n_blocks = -(-self.shape[0] // self.block_frames)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory, uncompressed."""
        return self.shape[0] * self._layout.frame_bytes

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame in memory, uncompressed."""
        return self._layout.frame_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredArray({self.name!r}, shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self!r} is on disk: reading it makes a copy")
        array = self.read(0, len(self))
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if isinstance(first, int | np.integer):
            frame = range(len(self))[first]  # IndexError and negative numbers as for any sequence
            return self.read(frame, frame + 1)[(0, *rest)]
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            if step > 0:
                return self.read(start, max(start, stop))[(slice(None, None, step), *rest)]
            return self.take(np.arange(start, stop, step))[(slice(None), *rest)]
        if first is Ellipsis or first is None or (isinstance(first, tuple) and not first):
            return self.read(0, len(self))[key]
        if not all(isinstance(index, slice | int | np.integer) for index in rest):
            raise IndexError(f"{self!r}: choose frames first, then index the array that comes")
        frames = np.arange(len(self))[first]
        return self.take(frames)[(slice(None),) * frames.ndim + rest]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) as a new array [stop - start, ...]."""
        self._check_blocks(range(start // self.block_frames, -(-stop // self.block_frames)))
        frames = np.empty((stop - start, *self.shape[1:]), self.dtype)
        piece = self._layout.shard[0]  # one shard at a time: whole files, bounded memory
        at = start
        while at < stop:
            end = min(stop, (at // piece + 1) * piece)
            frames[at - start : end - start] = self._decode(at, end)
            at = end
        return frames

    def take(self, frames: np.ndarray) -> np.ndarray:
        """The frames with these numbers, int [...], as an array [..., *frame shape].

        Each chunk that is needed is decoded once; recently decoded ones are remembered.
        """
        wanted, where = np.unique(np.asarray(frames, np.int64).ravel(), return_inverse=True)
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= len(self)):
            raise IndexError(f"frames {wanted[0]} to {wanted[-1]} of {len(self)} in {self.name!r}")
        taken = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        blocks, starts = np.unique(wanted // self.block_frames, return_index=True)
        ends = [*starts[1:], len(wanted)]
        for block, start, end in zip(blocks.tolist(), starts, ends, strict=True):
            taken[start:end] = self.block(block)[wanted[start:end] - block * self.block_frames]
        return taken[where].reshape(*np.shape(frames), *self.shape[1:])

    def block(self, block: int) -> np.ndarray:
        """The frames of one row of chunks, [at most block_frames, ...]; do not write into it."""
        key = (self._layout.name, block)
        decoded = self._cache.get(key)
        if decoded is None:
            start = block * self.block_frames
            self._check_blocks(range(block, block + 1))
            decoded = self._decode(start, min(start + self.block_frames, len(self)))
            self._cache.put(key, decoded)
        return decoded

    def problem(self, block: int) -> str | None:
        """What is wrong with the files of a block, as far as seen without decoding it."""
        return self._chunks.problem(block)

    def check_end(self) -> None:
        """Raise DataError where the last chunk is absent: frames are claimed that never were."""
        if self.n_blocks:
            self._check_blocks(range(self.n_blocks - 1, self.n_blocks))

    def _check_blocks(self, blocks: range) -> None:
        for block in blocks:
            problem = self._chunks.problem(block)
            if problem is not None:
                raise self._error(block, problem)

    def _decode(self, start: int, stop: int) -> np.ndarray:
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
            first, last = start // self.block_frames, (stop - 1) // self.block_frames
            if first == last:
                raise self._error(first, f"its chunk is damaged ({error})") from error
            for block in range(first, last + 1):  # find the one to name
                self._decode(
                    max(start, block * self.block_frames),
                    min(stop, (block + 1) * self.block_frames),
                )
            raise self._error(first, f"they cannot be read at once ({error})") from error

    def _error(self, block: int, problem: str) -> DataError:
        start = block * self.block_frames
        last = min(start + self.block_frames, len(self)) - 1
        return DataError(
            f"{self._files.path}: array {self.name!r}, frames {start} to {last}: {problem}. "
            "Copy or download the dataset again, or leave out the episodes of these frames"
        )
