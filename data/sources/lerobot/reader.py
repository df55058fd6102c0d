"""LeRobot datasets, versions 2.0, 2.1 and 3.0, as a source.

Keys keep their names (`observation.state`, `observation.images.top`, `action`). What merely counts
(timestamp, frame_index, episode_index, index) is left out, and so are columns of text. An episode's
task is kept in words; task_index stays a key only where it changes within an episode.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.lerobot.meta import LeRobotEpisode, read_meta
from dipole.data.sources.lerobot.parquet import numbers, pictures, read_rows
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    TaskSpans,
    task_spans,
)
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip, PacketTable, VideoError, video_error

COUNTED = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_REMEMBERED = 8  # columns of an episode, between two pieces of it


class LeRobotSource:
    """Reads the LeRobot dataset in the folder `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        meta = read_meta(path)
        self._path = path
        self._features = meta.features
        self._episodes = {episode.number: episode for episode in meta.episodes}
        self._columns: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._table: tuple[Path, PacketTable] | None = None
        frames = _schemas(path, meta.features)
        several = any(len(episode.tasks) > 1 for episode in meta.episodes)
        if several and "task_index" in meta.features:
            frames["task_index"] = FrameSchema((1,), np.dtype(np.int64))
        absent = {
            key: [e.number for e in meta.episodes if not e.videos[key].path.is_file()]
            for key, schema in frames.items()
            if schema.storage == "video"
        }
        self._tasks = {e.number: _task(e, meta.tasks) for e in meta.episodes}
        self._refs = [EpisodeRef(e.number, e.n_frames) for e in meta.episodes]
        self.info = SourceInfo(
            path,
            f"LeRobot v{meta.version}",
            frames,
            meta.fps,
            {"id": meta.robot, "version": ""} if meta.robot else {},
            {key: missing for key, missing in absent.items() if missing},
        )

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _Episode(self, ref, task_spans(self._tasks[ref.id]))

    def close(self) -> None:
        pass

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        place = f"{self._path}: {key!r}, episode {episode}"
        schema = self.info.frames[key]
        shape = schema.shape or ()
        column = self._column(self._episodes[episode], key)
        if self._features[key]["dtype"] == "image":
            rows = column.slice(start, stop - start)
            return pictures(rows, shape, place, start, self._path)
        return numbers(column.slice(start, stop - start), shape, place)

    def clip(self, episode: int, key: str) -> Clip | None:
        schema = self.info.frames[key]
        if schema.storage != "video":
            return None
        there = self._episodes[episode]
        video = there.videos[key]
        first = 0
        if video.from_second:
            try:
                times = self._times(video.path)
            except VideoError as error:
                place = f"{video.path}: {key!r}, episode {episode}"
                raise video_error(place, error) from error
            first = int(np.searchsorted(times, video.from_second - 0.5 / (self.info.fps or 1)))
        return Clip(video.path, first, there.n_frames, schema.shape or ())

    def _times(self, path: Path) -> np.ndarray:
        if self._table is None or self._table[0] != path:
            self._table = (path, PacketTable.of(path))
        return self._table[1].times

    def _column(self, episode: LeRobotEpisode, key: str) -> Any:
        wanted = (episode.number, key)
        if wanted not in self._columns:
            rows = read_rows(episode.data, key, episode.number, episode.n_frames)
            self._columns[wanted] = rows
            if len(self._columns) > _REMEMBERED:
                self._columns.popitem(last=False)
        return self._columns[wanted]


class _Episode:
    def __init__(self, source: LeRobotSource, ref: EpisodeRef, tasks: TaskSpans) -> None:
        self._source, self.ref, self.tasks = source, ref, tasks
        self.n_frames = ref.n_frames or 0

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self._source.read(self.ref.id, key, start, stop)

    def clip(self, key: str) -> Clip | None:
        return self._source.clip(self.ref.id, key)


def _task(episode: LeRobotEpisode, tasks: dict[int, str]) -> str:
    """The words; where an episode has none and the dataset one, that."""
    if episode.tasks:
        return episode.tasks[0]
    return next(iter(tasks.values())) if len(tasks) == 1 else ""


def _schemas(path: Path, features: dict[str, dict[str, Any]]) -> dict[str, FrameSchema]:
    frames = {}
    for key, said in features.items():
        if key in COUNTED or said.get("dtype") in ("string", "language", "audio"):
            continue
        try:
            frames[key] = _schema(key, said)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{path}: feature {key!r} of meta/info.json: {error}") from error
    return frames


def _schema(key: str, said: dict[str, Any]) -> FrameSchema:
    shape = tuple(int(n) for n in said["shape"])
    names = said.get("names")
    if said["dtype"] in ("image", "video"):
        storage = "video" if said["dtype"] == "video" else ""
        picture = _height_first(shape, names)
        return FrameSchema(picture, np.dtype(np.uint8), "image", storage=storage)
    dtype = np.dtype(np.float32 if said["dtype"] == "float64" else said["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"dtype {said['dtype']!r} is none of numbers")
    words = tuple(_flat(names))
    kind = "action" if key == "action" else "state"
    return FrameSchema(shape, dtype, kind, names=words if (len(words),) == shape else ())


def _height_first(shape: tuple[int, ...], names: Any) -> tuple[int, ...]:
    """[height, width, channels], also of pictures that are declared channels first."""
    if len(shape) != 3:
        raise ValueError(f"a picture of shape {list(shape)}")
    words = list(_flat(names))
    channels_first = words[:1] in (["channels"], ["channel"], ["c"]) or (
        len(words) != 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
    )
    return (*shape[1:], shape[0]) if channels_first else shape


def _flat(names: Any) -> list[str]:
    """Names are a list, a list in a list, or a table of lists; or there are none."""
    if isinstance(names, dict):
        names = list(names.values())
    if not isinstance(names, list):
        return []
    return [word for n in names for word in (_flat(n) if isinstance(n, list | dict) else [str(n)])]
