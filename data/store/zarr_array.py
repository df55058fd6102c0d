"""One array of a dataset, read frame by frame without ever inventing one."""

import warnings
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from dipole.data.core.errors import DataError, StorageError
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.zarr.chunks import ChunkMap
from dipole.data.store.zarr.decoding import chunk_decoder
from dipole.data.store.zarr.encoding import with_checksum
from dipole.data.store.zarr.layout import ArrayLayout
from dipole.data.store.zarr.tree import Tree

LOOKED_AT = 16  # chunks, to tell whether missing ones held the fill value
COUNTED = 10_000  # rows of chunks in which missing ones are counted


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

    def has(self, key: tuple[str, int]) -> bool:
        """Whether a chunk is there, without using it."""
        return key in self._blocks

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

    fill: chunks that are missing may be read as the metadata's fill value, with a warning, where
    that is likely what they held: zarr-python 3 does not write chunks of nothing else. Likely is it
    where stored frames in a row hold nothing else either, or mostly repeat the one before (a
    gripper), or none are stored. Raises DataError for codecs that are not read.
    """

    def __init__(
        self,
        files: Tree,
        layout: ArrayLayout,
        cache: ChunkCache | None = None,
        fill: bool = False,
    ) -> None:
        self._files = files
        self._layout = layout
        self._cache = cache or ChunkCache()
        self._chunks = ChunkMap(files, layout)
        self._fill = layout.fill if fill else None
        self._fill_likely: bool | None = None
        self._warned = False
        try:
            self._decode_chunk = chunk_decoder(layout)
        except DataError as error:
            raise DataError(f"{files.path}: {layout.name}: {error}") from error
        self.name = layout.name.removeprefix("data/")
        self.shape = layout.shape
        self.dtype = layout.dtype.newbyteorder("=")
        self.chunk_length = layout.chunk[0]
        self.n_chunks = -(-self.shape[0] // self.chunk_length)

    @property
    def file_length(self) -> int:
        return self._layout.shard[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        stop = max(start, stop)
        self._check_range(start, stop)
        if self._files.remote:
            self._chunks.prefetch(range(start // self.chunk_length, -(-stop // self.chunk_length)))
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
        if self._files.remote:
            self._chunks.prefetch(self._not_decoded(blocks))
        ends = [*starts[1:], len(wanted)]
        for block, start, end in zip(blocks.tolist(), starts, ends, strict=True):
            inside = wanted[start:end] - block * self.chunk_length
            taken[order[start:end]] = self.block(block)[inside]
        return taken.reshape(*np.shape(frames), *self.shape[1:])

    def prefetch(self, frames: np.ndarray) -> None:
        if self._files.remote and len(frames):
            self._chunks.prefetch(self._not_decoded(np.unique(frames // self.chunk_length)))

    def prefetch_checksums(self, blocks: Iterable[int]) -> None:
        """Have what `stored_sizes` and `stored_checksum` read fetched in the background."""
        if self._files.remote:
            self._chunks.prefetch(blocks, last=4)

    def _not_decoded(self, blocks: np.ndarray) -> list[int]:
        name = self._layout.name
        return [block for block in blocks.tolist() if not self._cache.has((name, block))]

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

    def chunk_error(self, block: int) -> str | None:
        problem = self._chunks.chunk_error(block)
        return None if problem is not None and self._is_filled(block) else problem

    def verify_last_chunk(self) -> None:
        if self.n_chunks:
            self._check_blocks(range(self.n_chunks - 1, self.n_chunks))

    def has_last_chunk(self) -> bool:
        """Whether the last chunk is stored, so that the array's length is not only claimed."""
        return not self.n_chunks or self._chunks.chunk_error(self.n_chunks - 1) is None

    def refuse_fill(self) -> None:
        """Take missing chunks for lost ones from now on."""
        self._fill = None

    def stored_sizes(self, block: int) -> bytes:
        """Bytes of each stored chunk of a block, int64; -1 where the fill value stands for it."""
        self._check_blocks(range(block, block + 1))
        chunks = self._chunks.chunks(block)
        sizes = [-1 if self._chunks.is_absent(c) else self._chunks.size(c) for c in chunks]
        return np.array(sizes, "<i8").tobytes()

    def stored_checksum(self, block: int) -> bytes:
        """The checksums of a block's stored chunks, which are sound as far as seen."""
        checked = bool(self._layout.codecs) and self._layout.codecs[-1][0] == "crc32c"
        chunks = [c for c in self._chunks.chunks(block) if not self._chunks.is_absent(c)]
        if checked:
            return b"".join(self._chunks.stored(chunk, last=4) for chunk in chunks)
        return b"".join(with_checksum(self._chunks.stored(chunk))[-4:] for chunk in chunks)

    def _check_blocks(self, blocks: range) -> None:
        for block in blocks:
            problem = self.chunk_error(block)
            if problem is not None:
                raise self._error(block, problem)

    def _is_filled(self, block: int) -> bool:
        """Whether chunks of a block are missing, no others are wrong, and were likely filled."""
        if self._fill is None:
            return False
        chunks = [*self._chunks.chunks(block)]
        absent = [self._chunks.is_absent(chunk) for chunk in chunks]
        wrong = [self._chunks.cell_error(chunk) is not None for chunk in chunks]
        return absent == wrong and self._is_fill_likely()

    def _is_fill_likely(self) -> bool:
        if self._fill_likely is None:
            step = max(self.n_chunks // LOOKED_AT, 1)
            stored = [
                block
                for block in range(0, self.n_chunks, step)
                if self._chunks.chunk_error(block) is None
            ]
            self._fill_likely = not stored or any(self._looks_filled(block) for block in stored)
        return self._fill_likely

    def _looks_filled(self, block: int) -> bool:
        start = block * self.chunk_length
        try:
            frames = self._decode(start, min(start + self.chunk_length, len(self)))
        except DataError:
            return False
        flat = frames.reshape(len(frames), -1)
        filled = (flat == self._fill).all(1)
        repeated = (flat[1:] == flat[:-1]).all(1)
        return bool((filled[1:] & repeated).any() or (len(flat) > 1 and repeated.mean() > 0.5))

    def _decode(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) of chunks that are there."""
        decoded = []
        for block in range(start // self.chunk_length, -(-stop // self.chunk_length)):
            first = block * self.chunk_length
            try:
                frames = self._decode_block(block)
            except StorageError:
                raise
            except Exception as error:  # codecs raise whatever they like at a damaged chunk
                raise self._error(block, f"its chunk is damaged ({error})") from error
            decoded.append(frames[max(start - first, 0) : stop - first])
        return decoded[0] if len(decoded) == 1 else np.concatenate(decoded)

    def _decode_block(self, block: int) -> np.ndarray:
        chunks = [*self._chunks.chunks(block)]
        if len(chunks) == 1 and self._layout.chunk[1:] == self.shape[1:]:
            return np.asarray(self._chunk(chunks[0]), self.dtype)
        frames = np.empty((self.chunk_length, *self.shape[1:]), self.dtype)
        for chunk in chunks:
            others = [
                slice(at * size, min((at + 1) * size, whole))
                for at, size, whole in zip(
                    chunk[1:], self._layout.chunk[1:], self.shape[1:], strict=True
                )
            ]
            kept = tuple(slice(0, part.stop - part.start) for part in others)
            frames[(slice(None), *others)] = self._chunk(chunk)[(slice(None), *kept)]
        return frames

    def _chunk(self, chunk: tuple[int, ...]) -> np.ndarray:
        if self._fill is not None and self._chunks.is_absent(chunk):
            self._warn_of_filled()
            return np.full(self._layout.chunk, self._fill, self.dtype)
        try:
            return self._decode_chunk(self._chunks.stored(chunk))
        except StorageError:
            raise
        except Exception:
            if not self._files.remote:
                raise
        self._chunks.forget(chunk)  # what came over a network is read once more
        return self._decode_chunk(self._chunks.stored(chunk))

    def _warn_of_filled(self) -> None:
        """Say once how many chunks are read as the fill value."""
        if self._warned:
            return
        self._warned = True
        blocks = range(min(self.n_chunks, COUNTED))  # there may be billions that are not there
        n_filled = sum(
            self._chunks.is_absent(chunk)
            for block in blocks
            for chunk in self._chunks.chunks(block)
        )
        or_more = " or more" if self.n_chunks > COUNTED else ""
        warnings.warn(
            f"{self._files.path}: {n_filled}{or_more} chunks of array {self.name!r} are not there "
            f"and are read as its fill value, {self._fill}. zarr-python 3 leaves out chunks of "
            "nothing else, and lost ones look the same: write arrays with "
            "config={'write_empty_chunks': True}, or convert the dataset",
            stacklevel=2,
        )

    def _error(self, block: int, problem: str) -> DataError:
        start = block * self.chunk_length
        last = min(start + self.chunk_length, len(self)) - 1
        hint = ""
        if self._fill is not None and "missing" in problem:
            hint = (
                f". If it held nothing but {self._fill}, zarr-python 3 left it out: write the "
                "array with config={'write_empty_chunks': True}"
            )
        return DataError(
            f"{self._files.path}: array {self.name!r}, frames {start} to {last}: {problem}. "
            f"Copy or download the dataset again, or leave out the episodes of these frames{hint}"
        )
