"""One array being written: frames come in any number, whole shards go out."""

from typing import Any

import numpy as np

CHUNK_BYTES = 64 * 2**10  # what one random read decompresses; at least one frame
SHARD_BYTES = 32 * 2**20  # what one file holds, and what waits in memory to be written
MOST_CHUNKS = 1024  # in a shard: its index stays below 16 KiB


class WrittenArray:
    """Appends frames [N, *shape] to an array of a zarr v3 group, one whole shard at a time."""

    def __init__(self, group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        from zarr.codecs import BloscCodec, Crc32cCodec

        frame_bytes = max(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
        chunk_frames = max(CHUNK_BYTES // frame_bytes, 1)
        chunks = min(max(SHARD_BYTES // (chunk_frames * frame_bytes), 1), MOST_CHUNKS)
        self._shard_frames = chunk_frames * chunks
        self._waiting: list[np.ndarray] = []
        self.n_frames = 0
        self.shape, self.dtype = shape, dtype
        self._array = group.create_array(
            name,
            shape=(0, *shape),
            chunks=(chunk_frames, *shape),
            shards=(self._shard_frames, *shape),
            dtype=dtype,
            compressors=[BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()],
            fill_value=0,
            # Otherwise chunks of zeros are left out, and cannot be told from lost ones.
            config={"write_empty_chunks": True},
        )

    def append(self, frames: np.ndarray) -> None:
        """frames: [N, *shape] of this dtype; copied, or written."""
        while len(frames):
            room = self._shard_frames - self.n_frames % self._shard_frames
            self._waiting.append(frames[:room].copy())
            self.n_frames += len(frames[:room])
            frames = frames[room:]
            if self.n_frames % self._shard_frames == 0:
                self.flush()

    def flush(self) -> None:
        """Write what waits; the last shard may be partly full."""
        if not self._waiting:
            return
        shard = np.concatenate(self._waiting)
        self._waiting.clear()
        self._array.resize((self.n_frames, *self.shape))
        self._array[self.n_frames - len(shard) :] = shard
