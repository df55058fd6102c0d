"""Any source as a LeRobot v3.0 dataset: pictures as PNG in parquet, video as the video it is.

    meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet            some episodes, one row group each
    videos/<key>/chunk-000/file-000.mp4        one episode each

Whole or not there, resumable and read back, as conversions into an episode store are.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.convert import Progress, conversion_identity, work_folder
from dipole.data.core.errors import DataError
from dipole.data.export.lerobot_tables import (
    FrameStatistics,
    PictureStatistics,
    column,
    data_schema,
    features,
    is_picture,
    lerobot_key,
    tasks_table,
    together,
)
from dipole.data.sources.combine.selected import refuse_absent
from dipole.data.sources.lerobot.reader import LeRobotSource
from dipole.data.sources.source import EpisodeRef, Source, frame_ranges
from dipole.data.store.publish import publish
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import PacketTable, VideoError, VideoReader, cut, video_error

FILE_BYTES = 100 * 2**20  # of frames in memory that one data file holds at most; PNG is smaller
FILES_PER_CHUNK = 1000
Statistics = FrameStatistics | PictureStatistics
SAMPLED = 100  # pictures of an episode whose statistics are taken, evenly


def export_lerobot(
    source: Source,
    path: Path,
    progress: Progress = lambda done, total, what: None,
) -> None:
    """Write a source as LeRobot v3.0 to the folder `path`.

    Raises DataError for what cannot be read, and where `path` exists.
    """
    info = source.info
    refuse_absent(source)
    if info.fps is None:
        raise DataError(f"{info.path}: its frames per second are not recorded; LeRobot needs them")
    with work_folder(path, {"to": "lerobot", **conversion_identity(source)}) as work:
        written = _Export(source, work, progress).run()
        progress(1, 1, "reading it back")
        compare(source, LeRobotSource(written))
        publish(written, path)


class _Export:
    """One export under way."""

    def __init__(self, source: Source, work: Path, progress: Progress) -> None:
        self._source, self._info, self._progress = source, source.info, progress
        self._episodes = source.episodes()
        about = self._info
        # Lengths and words come with an opened episode.
        opened = [source.open(ref) for ref in self._episodes]
        self._lengths = {episode.ref.id: episode.n_frames for episode in opened}
        self._tasks = {e.ref.id: e.tasks[0][1] if e.tasks else "" for e in opened}
        self._work, self._root = work, work / "dataset"
        self._fps = about.fps or 1.0
        self._videos = self._video_keys()
        self._features = features(about.frames, self._videos)
        self._words = list(dict.fromkeys(self._tasks.values()))
        self._names = {key: lerobot_key(key, frame) for key, frame in about.frames.items()}
        if len(set(self._names.values())) < len(self._names):
            raise DataError(f"{about.path}: two keys have one name in LeRobot: {self._names}")

    def run(self) -> Path:
        rows: list[dict[str, Any]] = []
        total = sum(self._lengths.values())
        for file, group in enumerate(self._groups()):
            noted = self._work / f"rows_{file:06d}.json"  # written when a file is whole
            if not noted.exists():
                first = rows[-1]["dataset_to_index"] if rows else 0
                made = self._write_file(file, group, len(rows), first, total)
                _write_json(noted, made)
            rows += json.loads(noted.read_text())
        self._write_meta(rows)
        return self._root

    def _groups(self) -> list[list[EpisodeRef]]:
        """Episodes that share a data file."""
        stored = [f for key, f in self._info.frames.items() if key not in self._videos]
        frame_bytes = sum(
            int(np.prod(f.shape or (), dtype=np.int64)) * np.dtype(f.dtype).itemsize for f in stored
        )
        groups: list[list[EpisodeRef]] = []
        room = 0
        for episode in self._episodes:
            if self._lengths[episode.id] * frame_bytes > room or not groups:
                groups.append([])
                room = FILE_BYTES
            groups[-1].append(episode)
            room -= self._lengths[episode.id] * frame_bytes
        return groups

    def _write_file(
        self, file: int, group: list[EpisodeRef], number: int, first: int, total: int
    ) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        path = self._root / "data" / _place(file, "parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".partial")
        rows = []
        with pq.ParquetWriter(beside, data_schema(self._features)) as writer:
            for episode in group:
                self._progress(first, total, f"episode {episode.id}")
                row, table = self._episode(episode, number, first)
                writer.write_table(table)
                rows.append(row | _where("data", file))
                number, first = number + 1, first + self._lengths[episode.id]
        os.replace(beside, path)
        return rows

    def _episode(self, episode: EpisodeRef, number: int, first: int) -> tuple[Any, Any]:
        """An episode's row in meta/episodes, and its frames as an arrow table."""
        import pyarrow as pa

        n = self._lengths[episode.id]
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [self._tasks[episode.id]],
            "length": n,
            "dataset_from_index": first,
            "dataset_to_index": first + n,
        }
        columns: dict[str, Any] = {}
        for key, schema in self._info.frames.items():
            statistics: Statistics = (
                PictureStatistics() if is_picture(schema) else FrameStatistics()
            )
            if key in self._videos:
                row |= self._video(episode, number, key, statistics)
            else:
                columns[self._names[key]] = self._column(episode, key, schema, statistics)
            row |= _named(self._names[key], statistics)
        counters: dict[str, np.ndarray] = {
            "timestamp": (np.arange(n) / self._fps).astype(np.float32),
            "frame_index": np.arange(n),
            "episode_index": np.full(n, number),
            "index": np.arange(first, first + n),
            "task_index": np.full(n, self._words.index(self._tasks[episode.id])),
        }
        for name, values in counters.items():
            counted = FrameStatistics()
            counted.add(values)
            row |= _named(name, counted)
            columns[name] = column(values, self._features[name])
        schema = data_schema(self._features)
        return row, pa.table([columns[name] for name in schema.names], schema=schema)

    def _column(
        self, episode: EpisodeRef, key: str, schema: FrameSchema, statistics: Statistics
    ) -> Any:
        import pyarrow as pa

        place = f"{self._info.path}: {key!r}, episode {episode.id}"
        parts = []
        for start, stop in frame_ranges(schema, self._lengths[episode.id]):
            frames = schema.fit(place, self._source.open(episode).read(key, start, stop))
            parts.append(column(frames, self._features[self._names[key]]))
            statistics.add(frames)
        return pa.chunked_array(parts)

    def _video(
        self, episode: EpisodeRef, number: int, key: str, statistics: Statistics
    ) -> dict[str, Any]:
        """Copy an episode's video; what its row says of it."""
        clip = self._source.open(episode).clip(key)
        name = self._names[key]
        path = self._root / "videos" / name / _place(number, "mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if clip is None:
                raise VideoError("it is no video, as that of other episodes is")
            table = PacketTable.of(clip.path)
            offset = clip.start_frame - table.span(clip)[0]
            if not path.exists():
                cut(clip, path, self._fps, table)
            reader = VideoReader(open(path, "rb"))  # noqa: SIM115  the reader closes it
            step = max(self._lengths[episode.id] // SAMPLED, 1)
            for frame in reader.frames(range(offset, offset + self._lengths[episode.id], step)):
                statistics.add(frame[None])
            reader.close()
        except VideoError as error:
            place = f"{self._info.path}: {key!r}, episode {episode.id}"
            raise video_error(place, error) from error
        begin = offset / self._fps
        times = {
            "from_timestamp": begin,
            "to_timestamp": begin + self._lengths[episode.id] / self._fps,
        }
        said = {f"videos/{name}/{word}": value for word, value in times.items()}
        return said | _where(f"videos/{name}", number)

    def _video_keys(self) -> dict[str, dict[str, Any]]:
        """For each camera that is video: what info.json says of it."""
        said = {}
        for key, schema in self._info.frames.items():
            clip = self._source.open(self._episodes[0]).clip(key)
            if clip is None:
                continue
            height, width, channels = schema.shape or (0, 0, 3)
            try:
                codec = PacketTable.of(clip.path).codec
            except VideoError as error:
                raise video_error(f"{clip.path}: {key!r}", error) from error
            said[key] = {
                "video.height": height,
                "video.width": width,
                "video.codec": "av1" if "dav1d" in codec else codec,
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": _whole(self._fps),
                "video.channels": channels,
                "has_audio": False,
            }
        return said

    def _write_meta(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta = self._root / "meta"
        episodes = meta / "episodes" / _place(0, "parquet")
        episodes.parent.mkdir(parents=True, exist_ok=True)
        rows = [row | _where("meta/episodes", 0) for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), episodes)
        pq.write_table(tasks_table(self._words), meta / "tasks.parquet")
        statistics = {
            name: together(
                [{stat: row[f"stats/{name}/{stat}"] for stat in _STATISTICS} for row in rows]
            )
            for name in self._features
        }
        _write_json(meta / "stats.json", statistics)
        n_frames = rows[-1]["dataset_to_index"]
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._info.environment.get("id") or None,
            "total_episodes": len(rows),
            "total_frames": n_frames,
            "total_tasks": len(self._words),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": _whole(self._fps),
            "splits": {"train": f"0:{len(rows)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
            if self._videos
            else None,
            "features": self._features,
        }
        _write_json(meta / "info.json", info)


_STATISTICS = ("min", "max", "mean", "std", "count")


def compare(source: Source, written: Source) -> None:
    """Raise DataError where what was written differs from the source, or has fewer frames."""
    for ref, written_ref in zip(source.episodes(), written.episodes(), strict=True):
        episode, there = source.open(ref), written.open(written_ref)
        for key, schema in source.info.frames.items():
            name = lerobot_key(key, schema)
            clip = there.clip(name)
            place = f"{written.info.path}: {name!r}, episode {written_ref.id}"
            try:
                if clip is not None:
                    PacketTable.of(clip.path).span(clip)
                    continue
            except VideoError as error:
                raise video_error(place, error) from error
            for start, stop in frame_ranges(schema, episode.n_frames):
                was = schema.fit(place, episode.read(key, start, stop))
                read = there.read(name, start, stop).reshape(was.shape)
                if not np.array_equal(was, read):
                    raise DataError(f"{place}: what was written reads differently: the disk?")


def _place(number: int, ending: str) -> str:
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return f"chunk-{chunk:03d}/file-{file:03d}.{ending}"


def _where(prefix: str, number: int) -> dict[str, int]:
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}


def _named(name: str, statistics: Statistics) -> dict[str, Any]:
    return {f"stats/{name}/{stat}": value for stat, value in statistics.result().items()}


def _whole(fps: float) -> float | int:
    return int(fps) if fps == int(fps) else fps


def _write_json(path: Path, values: Mapping[str, Any] | list[Any]) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_text(json.dumps(values, indent=1))
    os.replace(beside, path)
