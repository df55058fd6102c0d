"""One array being written: frames come in any number, whole shards go out."""

from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.registry import nearest
from dipole.data.store.zarr.image_codec import zarr_codec

CHUNK_BYTES = 64 * 2**10  # what one random read decompresses; at least one frame
SHARD_BYTES = 32 * 2**20  # what one file holds, and what waits in memory to be written
MOST_CHUNKS = 1024  # in a shard: its index stays below 16 KiB
PICTURES = {"jxl": "dipole_jxl", "jpeg": "dipole_jpeg"}
ENCODINGS = ("zstd", *PICTURES)  # how pictures may be stored


def check_encoding(images: str) -> str:
    """The encoding itself; raises DataError for one that does not exist."""
    if images not in ENCODINGS:
        hint = nearest(images, ENCODINGS)
        raise DataError(f"images are stored as {', '.join(ENCODINGS)}, not {images!r}{hint}")
    return images


class ArrayAppender:
    """Appends frames [N, *shape] to an array of a zarr v3 group, one whole shard at a time.

    encoding: of ENCODINGS; all but zstd are for pictures, uint8 [height, width, channels].
    An array that is in the group already goes on after its last whole shard.
    """

    def __init__(
        self,
        group: Any,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        encoding: str = "zstd",
    ) -> None:
        frame_bytes = max(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
        picture = encoding in PICTURES
        chunk_frames = 1 if picture else max(CHUNK_BYTES // frame_bytes, 1)
        chunks = min(max(SHARD_BYTES // (chunk_frames * frame_bytes), 1), MOST_CHUNKS)
        self._shard_frames = chunk_frames * chunks
        self._waiting: list[np.ndarray] = []
        self.n_frames = 0
        self.shape, self.dtype = shape, dtype
        if name in group:
            self._array = group[name]
            self.n_frames = _whole_shards(group, name) * self._shard_frames
            return
        self._array = group.create_array(
            name,
            shape=(0, *shape),
            chunks=(chunk_frames, *shape),
            shards=(self._shard_frames, *shape),
            dtype=dtype,
            fill_value=0,
            # Otherwise chunks of zeros are left out, and cannot be told from lost ones.
            config={"write_empty_chunks": True},
            **(_picture(PICTURES[encoding]) if picture else _numbers()),
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


def _numbers() -> dict[str, Any]:
    from zarr.codecs import BloscCodec, Crc32cCodec

    codecs = [BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()]
    return {"compressors": codecs}


def _picture(codec: str) -> dict[str, Any]:
    from zarr.codecs import Crc32cCodec

    return {"serializer": zarr_codec(codec), "compressors": [Crc32cCodec()]}


def _whole_shards(group: Any, name: str) -> int:
    """Shards that are on the disk, counted from the first; zarr writes each whole or not at all.

    The last one may be partly full, and is written again.
    """
    folder = Path(group.store.root) / name / "c"
    there = {int(entry.name) for entry in folder.iterdir()} if folder.is_dir() else set()
    count = 0
    while count in there:
        count += 1
    return max(count - 1, 0)
