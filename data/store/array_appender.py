"""One array being written: frames come in any number, chunks go out as soon as they are full.

    unfinished/camera.2      the shard that is being filled: whole chunks, one after another
    data/camera/c/0/0/0/0    finished shards: the same file with an index behind the chunks
    in memory                fewer frames than a chunk holds

Each byte is written once. What is on the disk may be more than was committed, never less:
`cut` takes the array back to any number of frames.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.registry import nearest
from dipole.data.store.publish import Unflushed, write_all, write_whole
from dipole.data.store.zarr.chunks import ChunkMap
from dipole.data.store.zarr.decoding import chunk_decoder, without_checksum
from dipole.data.store.zarr.encoding import chunk_encoder, shard_index
from dipole.data.store.zarr.layout import read_layout
from dipole.data.store.zarr.tree import FolderTree

IMAGE_CODECS = {"jxl": "dipole_jxl", "jpeg": "dipole_jpeg"}
ENCODINGS = ("zstd", *IMAGE_CODECS)  # how images may be stored


def check_encoding(images: str) -> str:
    """The encoding itself; raises DataError for one that does not exist."""
    if images not in ENCODINGS:
        hint = nearest(images, ENCODINGS)
        raise DataError(f"images are stored as {', '.join(ENCODINGS)}, not {images!r}{hint}")
    return images


@dataclass(frozen=True)
class ArrayState:
    """Where an array was at a commit.

    n_frames: in all; sizes: bytes of the chunks in the unfinished shard; tail: frames behind them,
    [fewer than a chunk, *shape].
    """

    n_frames: int
    sizes: tuple[int, ...]
    tail: np.ndarray


class ArrayAppender:
    """Appends frames [N, *shape] to an array of a zarr v3 group whose metadata is there.

    folder: the group; name: of the array in it; unfinished: file in which a shard is filled, to
    which the shard's number is added; unflushed: is told what was written.
    """

    def __init__(self, folder: Path, name: str, unfinished: Path, unflushed: Unflushed) -> None:
        layout = read_layout(FolderTree(folder), name)
        if layout is None:
            raise DataError(f"{folder}: no array {name!r}; write the dataset again")
        self.name = name
        self.shape = layout.shape[1:]  # of one frame
        self.dtype = layout.dtype.newbyteorder("=")
        self.n_frames = 0
        self.n_stored = layout.shape[0]  # as its metadata says
        self.chunk_length, self.shard_length = layout.chunk[0], layout.shard[0]
        self._folder, self._unfinished, self._unflushed = folder, unfinished, unflushed
        self._layout = layout
        self._encode = chunk_encoder(layout)
        self._decode = chunk_decoder(layout)
        self._n_chunks = self.shard_length // self.chunk_length
        self._shard = 0
        self._sizes: list[int] = []
        self._file: BinaryIO | None = None
        self._tail = np.zeros((self.chunk_length, *self.shape), self.dtype)
        self._filled = 0  # frames of the tail

    def append(self, frames: np.ndarray) -> None:
        """frames: [N, *shape] of this dtype; raises DataError for others."""
        if frames.shape[1:] != self.shape or frames.dtype != self.dtype:
            raise DataError(
                f"{self.name!r} holds frames of {self.dtype} {list(self.shape)}, not of "
                f"{frames.dtype} {list(frames.shape[1:])}"
            )
        while len(frames):
            part = frames[: self.chunk_length - self._filled]
            self._tail[self._filled : self._filled + len(part)] = part
            self.n_frames += len(part)  # first: from here on there is something to take back
            self._filled += len(part)
            frames = frames[len(part) :]
            if self._filled == self.chunk_length:
                self._write_chunk()
                self._filled = 0
                if len(self._sizes) == self._n_chunks:
                    self._finish_shard()

    def state(self) -> ArrayState:
        """Where the array is now."""
        return ArrayState(self.n_frames, (*self._sizes,), self._tail[: self._filled].copy())

    def restore(self, state: ArrayState) -> int:
        """Go on from a commit; returns how many frames are sound, perhaps fewer than then.

        Files of later frames are removed, or will be overwritten.
        """
        self.close()
        self._shard = state.n_frames // self.shard_length
        self._sizes, self.n_frames = [*state.sizes], state.n_frames
        self._filled = len(state.tail)
        self._tail[: self._filled] = state.tail
        self._fetch_shard()
        self._remove_other_files()
        sound = self._sound_chunks()
        if sound == len(self._sizes):
            return self.n_frames
        return self._shard * self.shard_length + sound * self.chunk_length

    def sound_frames(self, checked_from: int = 0) -> int:
        """Frames before the first finished shard that is missing, cut short or damaged.

        checked_from: shards from this one on are read and compared with their checksums; of those
        before, existence, length and index are looked at.
        """
        chunks = ChunkMap(FolderTree(self._folder), self._layout)
        for shard in range(self._shard):
            for block in range(shard * self._n_chunks, (shard + 1) * self._n_chunks):
                if not _is_sound(chunks, block, shard >= checked_from):
                    return shard * self.shard_length
        return self.n_frames

    def adopt(self) -> None:
        """Go on behind the last frame of an array that was finished.

        Its last shard stays until another takes its place. Raises DataError where it is damaged.
        """
        self._go_to(self.n_stored, shard=-1)
        if self._sound_chunks() < len(self._sizes):
            raise DataError(
                f"{self._folder}: the last shard of {self.name!r} is damaged. "
                "Copy or download the dataset again"
            )

    def cut(self, n_frames: int) -> None:
        """Forget all frames from this number on."""
        if n_frames != self.n_frames:
            self._go_to(n_frames, self._shard)
            self._remove_other_files()

    def finish(self) -> None:
        """Write the last shard, which may be partly full, and the array's length."""
        if self._filled:
            self._tail[self._filled :] = 0
            self._write_chunk()
        if self._sizes:
            self._finish_shard()
        self.close()
        file = self._folder / self.name / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["shape"][0] = self.n_frames
        # The metadata is all that says how chunks are stored: no power cut may leave it empty.
        write_whole(file, json.dumps(metadata, indent=2).encode(), durable=True)

    def close(self) -> None:
        """Close the file; what was written stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _go_to(self, n_frames: int, shard: int) -> None:
        """Behind this many frames; shard: the one that is unfinished now."""
        wanted, inside = divmod(n_frames, self.shard_length)
        n_chunks, n_tail = divmod(inside, self.chunk_length)
        if wanted != shard:
            self._reopen_shard(wanted, n_chunks + (n_tail > 0))
        if n_tail and n_chunks < len(self._sizes):
            raw = self._read(sum(self._sizes[:n_chunks]), self._sizes[n_chunks])
            self._tail[:n_tail] = self._decode(raw)[:n_tail]
        self._sizes = self._sizes[:n_chunks]
        self._filled, self.n_frames = n_tail, n_frames

    def _write_chunk(self) -> None:
        raw = self._encode(self._tail)
        file = self._open()
        file.seek(sum(self._sizes))
        write_all(file, raw)
        self._unflushed.add(self._unfinished_file(self._shard))
        self._sizes.append(len(raw))

    def _finish_shard(self) -> None:
        file = self._open()
        file.seek(sum(self._sizes))
        write_all(file, shard_index(self._sizes, self._n_chunks))
        file.truncate()
        self.close()
        target = self._shard_file(self._shard)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._unfinished_file(self._shard), target)
        depth = len(target.relative_to(self._folder).parts)
        self._unflushed.add(target, *target.parents[:depth])
        self._shard += 1
        self._sizes = []

    def _open(self) -> BinaryIO:
        if self._file is None:
            path = self._unfinished_file(self._shard)
            path.touch()
            self._unflushed.add(path.parent)
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115  until `close`
        return self._file

    def _read(self, start: int, length: int) -> bytes:
        file = self._open()
        file.seek(start)
        return file.read(length)

    def _fetch_shard(self) -> None:
        """The unfinished shard's file, taken back where it was finished after the commit."""
        if self._sizes and not self._unfinished_file(self._shard).exists():
            finished = self._shard_file(self._shard)
            if finished.is_file():
                with open(finished, "rb") as file:
                    content = file.read(sum(self._sizes))
                self._write_unfinished(self._shard, content)

    def _reopen_shard(self, shard: int, n_chunks: int) -> None:
        """Go back to a finished shard and its first chunks."""
        chunks = ChunkMap(FolderTree(self._folder), self._layout)
        first = shard * self._n_chunks
        others = (0,) * len(self.shape)
        stored = [chunks.stored((first + n, *others)) for n in range(n_chunks)]
        self.close()
        self._write_unfinished(shard, b"".join(stored))
        self._shard, self._sizes = shard, [len(raw) for raw in stored]

    def _write_unfinished(self, shard: int, content: bytes) -> None:
        file = self._unfinished_file(shard)
        write_whole(file, content, durable=False)
        self._unflushed.add(file, file.parent)

    def _sound_chunks(self) -> int:
        """Chunks of the unfinished shard before the first that is damaged."""
        if not self._sizes:
            return 0
        at = 0
        for n, size in enumerate(self._sizes):
            try:
                without_checksum(self._read(at, size))
            except ValueError:
                return n
            at += size
        return len(self._sizes)

    def _remove_other_files(self) -> None:
        """Finished shards from the present one on, and other unfinished ones."""
        mine = self._unfinished_file(self._shard)
        for file in self._unfinished.parent.glob(f"{self._unfinished.name}.*"):
            number = file.name.removeprefix(f"{self._unfinished.name}.")
            if file != mine and number.isdecimal():
                file.unlink()
        folder = self._folder / self.name / "c"
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name.isdecimal() and int(entry.name) >= self._shard:
                file = self._shard_file(int(entry.name))
                file.unlink(missing_ok=True)

    def _unfinished_file(self, shard: int) -> Path:
        return self._unfinished.with_name(f"{self._unfinished.name}.{shard}")

    def _shard_file(self, shard: int) -> Path:
        return self._folder / self._layout.file((shard, *(0 for _ in self.shape)))


def _is_sound(chunks: ChunkMap, block: int, checked: bool) -> bool:
    if chunks.chunk_error(block) is not None:
        return False
    if not checked:
        return True
    try:
        for chunk in chunks.chunks(block):
            without_checksum(chunks.stored(chunk))
    except (OSError, ValueError):
        return False
    return True
