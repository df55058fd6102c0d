"""Any source as a LeRobot v3.0 dataset: pictures as PNG in parquet, video as the video it is.

    meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet            some episodes, one row group each
    videos/<key>/chunk-000/file-000.mp4        one episode each

Whole or not there, resumable and read back, as conversions into an episode store are.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.convert import Progress, conversion_identity, work_folder
from dipole.data.core.errors import DataError
from dipole.data.export.lerobot_compare import compare, merged
from dipole.data.export.lerobot_features import copies, features, is_picture, lerobot_keys
from dipole.data.export.lerobot_files import file_indices, file_name, write_json
from dipole.data.export.lerobot_meta import write_meta
from dipole.data.export.lerobot_tables import column, data_schema
from dipole.data.export.lerobot_videos import video_infos, write_video
from dipole.data.export.statistics import (
    STATISTICS,
    DepthStatistics,
    FrameStatistics,
    PictureStatistics,
)
from dipole.data.sources.combine.selected import refuse_absent
from dipole.data.sources.lerobot.reader import LeRobotSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, frame_ranges
from dipole.data.store.publish import publish
from dipole.data.store.schema import FrameSchema

FILE_BYTES = 100 * 2**20  # of frames in memory that one data file holds at most; PNG is smaller
Row = dict[str, Any]


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
    names = lerobot_keys(info.path, info.frames)
    with work_folder(path, {"to": "lerobot", **conversion_identity(source)}) as work:
        written = _Export(source, names, info.fps, work, progress).run()
        progress(1, 1, "reading it back")
        back = LeRobotSource(written)
        compare(source, back, names)
        back.close()
        publish(written, path)


class _Export:
    """One export under way. words: number of each task, in the order in which they come."""

    def __init__(
        self, source: Source, names: dict[str, str], fps: float, work: Path, progress: Progress
    ) -> None:
        self._source, self._info, self._progress = source, source.info, progress
        self._names, self._fps = names, fps
        self._work, self._root = work, work / "dataset"
        self._refs = source.episodes()
        self._total = sum(ref.n_frames or 0 for ref in self._refs)
        videos = video_infos(source.open(self._refs[0]), self._info.frames, fps)
        self._features = features(self._info.frames, names, videos)
        self._copies = copies(self._features)
        self._videos = set(videos)
        self._words: dict[str, int] = {}
        self._frame_bytes = sum(
            math.prod(schema.shape or ()) * np.dtype(schema.dtype).itemsize
            for key, schema in self._info.frames.items()
            if key not in videos
        )

    def run(self) -> Path:
        rows: list[Row] = []
        file = 0
        while len(rows) < len(self._refs):
            noted = self._work / f"rows_{file:06d}.json"  # written when a file is whole
            if not noted.exists():
                first = rows[-1]["dataset_to_index"] if rows else 0
                write_json(noted, self._write_file(file, self._refs[len(rows) :], len(rows), first))
            rows += json.loads(noted.read_text())
            for row in rows:
                self._number(row["tasks"])
            file += 1
        robot = self._info.environment.get("id") or None
        write_meta(self._root, rows, list(self._words), self._features, self._fps, robot)
        return self._root

    def _write_file(
        self, file: int, refs: Sequence[EpisodeRef], number: int, first: int
    ) -> list[Row]:
        """Write as many of the episodes as a data file holds; their rows in meta/episodes."""
        import pyarrow.parquet as pq

        path = self._root / "data" / file_name(file, "parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".partial")
        rows: list[Row] = []
        room = FILE_BYTES
        with pq.ParquetWriter(beside, data_schema(self._features)) as writer:
            for ref in refs:
                episode = self._source.open(ref)
                room -= episode.n_frames * self._frame_bytes
                if rows and room < 0:
                    break
                self._progress(first, self._total, f"episode {ref.id}")
                row, table = self._episode(episode, number, first)
                writer.write_table(table)
                rows.append(row | file_indices("data", file))
                number, first = number + 1, first + episode.n_frames
        os.replace(beside, path)
        return rows

    def _episode(self, episode: SourceEpisode, number: int, first: int) -> tuple[Row, Any]:
        """An episode's row in meta/episodes, and its frames as an arrow table."""
        import pyarrow as pa

        n = episode.n_frames
        spans = merged(episode.tasks) or ((0, ""),)
        task_index = self._number([words for _, words in spans])
        row: Row = {
            "episode_index": number,
            "tasks": list(dict.fromkeys(words for _, words in spans)),
            "length": n,
            "dataset_from_index": first,
            "dataset_to_index": first + n,
        }
        columns: dict[str, Any] = {}
        for key, schema in self._info.frames.items():
            name = self._names[key]
            place = f"{self._info.path}: {key!r}, episode {episode.ref.id}"
            if key in self._videos:
                clip = episode.clip(key)
                said, statistics = write_video(self._root, place, name, number, clip, self._fps)
                row |= said | _named(name, statistics.result())
            else:
                columns[name], result = self._column(place, episode, key, schema)
                row |= _named(name, result)
        for name, original in self._copies.items():
            columns[name] = columns[original]
            row |= _named(name, {stat: row[f"stats/{original}/{stat}"] for stat in STATISTICS})
        lengths = np.diff([*(start for start, _ in spans), n])
        counters: dict[str, np.ndarray] = {
            "timestamp": (np.arange(n) / self._fps).astype(np.float32),
            "frame_index": np.arange(n),
            "episode_index": np.full(n, number),
            "index": np.arange(first, first + n),
            "task_index": np.repeat(task_index, lengths),
        }
        for name, values in counters.items():
            counted = FrameStatistics()
            counted.add(values)
            row |= _named(name, counted.result())
            columns[name] = column(values, self._features[name])
        schema = data_schema(self._features)
        return row, pa.table([columns[name] for name in schema.names], schema=schema)

    def _column(
        self, place: str, episode: SourceEpisode, key: str, schema: FrameSchema
    ) -> tuple[Any, dict[str, Any]]:
        import pyarrow as pa

        statistics = _statistics(schema)
        parts = []
        for start, stop in frame_ranges(schema, episode.n_frames):
            frames = schema.fit(place, episode.read(key, start, stop))
            parts.append(column(frames, self._features[self._names[key]]))
            statistics.add(frames)
        return pa.chunked_array(parts), statistics.result()

    def _number(self, words: Sequence[str]) -> list[int]:
        """Numbers of these tasks; new ones get the next."""
        return [self._words.setdefault(word, len(self._words)) for word in words]


def _statistics(schema: FrameSchema) -> FrameStatistics | PictureStatistics | DepthStatistics:
    if schema.kind == "depth":
        return DepthStatistics()
    return PictureStatistics() if is_picture(schema) else FrameStatistics()


def _named(name: str, statistics: dict[str, Any]) -> dict[str, Any]:
    return {f"stats/{name}/{stat}": value for stat, value in statistics.items()}
