"""One episode as LeRobot keeps it: a row of meta/episodes, and its frames as an arrow table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.convert.copying import fitted
from dipole.data.export.lerobot.compare import merged
from dipole.data.export.lerobot.features import copies, is_8_bit_image
from dipole.data.export.lerobot.statistics import (
    STATISTICS,
    DepthStatistics,
    FrameStatistics,
    ImageStatistics,
)
from dipole.data.export.lerobot.tables import column, data_schema
from dipole.data.export.lerobot.videos import write_video
from dipole.data.sources.source import SourceEpisode, SourceInfo, frame_ranges
from dipole.data.store.schema import FrameSchema
from dipole.data.store.tasks import TaskSpans

Row = dict[str, Any]


class EpisodeExporter:
    """Writes the videos of episodes below `root`, and makes their rows and tables.

    names: LeRobot's, of the source's keys. videos: Keys that stay video.
    declared: `features` of info.json. words: The tasks so far, by number.
    """

    def __init__(
        self,
        root: Path,
        info: SourceInfo,
        names: dict[str, str],
        videos: set[str],
        declared: dict[str, dict[str, Any]],
        fps: float,
    ) -> None:
        self._root, self._info, self._names, self._videos = root, info, names, videos
        self._declared, self._fps = declared, fps
        self._copies = copies(declared)
        self._numbers: dict[str, int] = {}

    @property
    def words(self) -> list[str]:
        return list(self._numbers)

    def number(self, words: Sequence[str]) -> list[int]:
        """Numbers of these tasks; new ones get the next."""
        return [self._numbers.setdefault(word, len(self._numbers)) for word in words]

    def export(self, episode: SourceEpisode, number: int, first: int) -> tuple[Row, Any]:
        """The row and table of an episode. number, first: its own, and its first frame's."""
        import pyarrow as pa

        spans = merged(episode.tasks) or ((0, ""),)
        row: Row = {
            "episode_index": number,
            "tasks": list(dict.fromkeys(words for _, words in spans)),
            "length": episode.n_frames,
            "dataset_from_index": first,
            "dataset_to_index": first + episode.n_frames,
        }
        columns: dict[str, Any] = {}
        for key, schema in self._info.frames.items():
            row |= self._key(episode, number, key, schema, columns)
        for name, original in self._copies.items():
            columns[name] = columns[original]
            row |= _named(name, {stat: row[f"stats/{original}/{stat}"] for stat in STATISTICS})
        for name, values in self._counters(episode.n_frames, number, first, spans).items():
            statistics = FrameStatistics()
            statistics.add(values)
            row |= _named(name, statistics.result())
            columns[name] = column(values, self._declared[name])
        schema = data_schema(self._declared)
        return row, pa.table([columns[name] for name in schema.names], schema=schema)

    def _key(
        self,
        episode: SourceEpisode,
        number: int,
        key: str,
        schema: FrameSchema,
        columns: dict[str, Any],
    ) -> Row:
        """Write one key as video, or into `columns`; what the episode's row says of it."""
        name = self._names[key]
        place = f"{self._info.path}: {key!r}, episode {episode.ref.id}"
        if key in self._videos:
            clip = episode.clip(key)
            place_in_file, seen = write_video(self._root, place, name, number, clip, self._fps)
            return place_in_file | _named(name, seen.result())
        columns[name], statistics = self._column(place, episode, key, schema)
        return _named(name, statistics)

    def _column(
        self, place: str, episode: SourceEpisode, key: str, schema: FrameSchema
    ) -> tuple[Any, dict[str, Any]]:
        import pyarrow as pa

        statistics = _statistics(schema)
        parts = []
        for start, stop in frame_ranges(schema, episode.n_frames):
            frames = fitted(place, schema, key, episode.read(key, start, stop))
            parts.append(column(frames, self._declared[self._names[key]]))
            statistics.add(frames)
        return pa.chunked_array(parts), statistics.result()

    def _counters(self, n: int, number: int, first: int, spans: TaskSpans) -> dict[str, np.ndarray]:
        lengths = np.diff([*(start for start, _ in spans), n])
        tasks = self.number([words for _, words in spans])
        return {
            "timestamp": (np.arange(n) / self._fps).astype(np.float32),
            "frame_index": np.arange(n),
            "episode_index": np.full(n, number),
            "index": np.arange(first, first + n),
            "task_index": np.repeat(tasks, lengths),
        }


def _statistics(schema: FrameSchema) -> FrameStatistics | ImageStatistics | DepthStatistics:
    if schema.kind == "depth":
        return DepthStatistics()
    return ImageStatistics() if is_8_bit_image(schema) else FrameStatistics()


def _named(name: str, statistics: dict[str, Any]) -> Row:
    return {f"stats/{name}/{stat}": value for stat, value in statistics.items()}
