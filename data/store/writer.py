"""The files of an episode store while it is written: arrays, videos, where episodes end, tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.store.array_appender import ArrayAppender
from dipole.data.store.video import Clip, PacketTable, cut
from dipole.data.store.video_array import video_file

FORMAT = 1  # of the attributes; raised when a reader must tell versions apart


class StoreWriter:
    """Writes what it is given into a folder, unchecked; goes on where the folder has something.

    images: how pictures are stored, see `written_array.ENCODINGS`.
    """

    def __init__(self, folder: Path, images: str = "zstd") -> None:
        import zarr

        self.folder = folder
        self._images = images
        self._group = zarr.open_group(folder, mode="a", zarr_format=3)
        self._arrays: dict[str, ArrayAppender] = {}
        self._first_frames: dict[str, list[int]] = {}
        self._tables: dict[Path, PacketTable] = {}

    def array(self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ArrayAppender:
        """The array data/<key> to append to, of frames of this shape and dtype."""
        if key not in self._arrays:
            picture = dtype == np.uint8 and len(shape) == 3
            encoding = self._images if picture else "zstd"
            self._arrays[key] = ArrayAppender(self._group, f"data/{key}", shape, dtype, encoding)
        return self._arrays[key]

    def add_video(self, key: str, clip: Clip, fps: float) -> None:
        """The next episode's frames of `key`; raises VideoError where the file has them not."""
        first_frames = self._first_frames.setdefault(key, [])
        target = self.folder / video_file(key, len(first_frames))
        table = self._table(clip.path)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            cut(clip, target, fps, table)
        first_frames.append(clip.start_frame - table.span(clip)[0])

    def finish(
        self,
        ends: Sequence[int],
        attributes: Mapping[str, Any],
        tasks: Sequence[str] = (),
    ) -> None:
        """Write what waits, the episode ends, and what the dataset says of itself.

        tasks: one for each episode, or none; the same words are kept once.
        """
        for array in self._arrays.values():
            array.flush()
        self._list("meta/episode_ends", ends)
        for key, first_frames in self._first_frames.items():
            self._list(f"videos/{key}/first_frame", first_frames)
        words = list(dict.fromkeys(tasks))
        said: dict[str, Any] = {"dipole_format": FORMAT, **attributes}
        if any(words):
            said["tasks"] = words
            self._list("meta/task_index", [words.index(task) for task in tasks])
        self._group.update_attributes(said)

    def _list(self, name: str, numbers: Sequence[int]) -> None:
        if name in self._group:  # of an attempt that ended here
            del self._group[name]
        array = ArrayAppender(self._group, name, (), np.dtype(np.int64))
        array.append(np.array(numbers, np.int64))
        array.flush()

    def _table(self, path: Path) -> PacketTable:
        """Remembered for the last file: one may hold many episodes."""
        if path not in self._tables:
            self._tables = {path: PacketTable.of(path)}
        return self._tables[path]
