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

import numpy as np

from dipole.data.convert import Progress, conversion_identity, work_folder
from dipole.data.core.errors import DataError
from dipole.data.export.lerobot.compare import compare
from dipole.data.export.lerobot.episode import EpisodeExporter, Row
from dipole.data.export.lerobot.features import features, lerobot_keys
from dipole.data.export.lerobot.files import file_indices, file_name, write_json
from dipole.data.export.lerobot.meta import write_meta
from dipole.data.export.lerobot.tables import data_schema
from dipole.data.export.lerobot.videos import video_infos
from dipole.data.sources.combine.selected import refuse_absent
from dipole.data.sources.lerobot.reader import LeRobotSource
from dipole.data.sources.source import EpisodeRef, Source
from dipole.data.store.publish import publish

FILE_BYTES = 100 * 2**20  # of frames in memory that one data file holds at most; PNG is smaller


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
    """One export under way."""

    def __init__(
        self, source: Source, names: dict[str, str], fps: float, work: Path, progress: Progress
    ) -> None:
        self._source, self._fps, self._progress = source, fps, progress
        self._work, self._root = work, work / "dataset"
        self._refs = source.episodes()
        self._total = sum(ref.n_frames or 0 for ref in self._refs)
        info = source.info
        self._robot = info.environment.get("id") or None
        videos = video_infos(source.open(self._refs[0]), info.frames, fps)
        self._features = features(info.frames, names, videos)
        self._exporter = EpisodeExporter(self._root, info, names, set(videos), self._features, fps)
        self._frame_bytes = sum(
            math.prod(schema.shape or ()) * np.dtype(schema.dtype).itemsize
            for key, schema in info.frames.items()
            if key not in videos
        )

    def run(self) -> Path:
        """Write what an earlier attempt has not written; returns the dataset's folder."""
        rows: list[Row] = []
        file = 0
        while len(rows) < len(self._refs):
            noted = self._work / f"rows_{file:06d}.json"  # written when a file is whole
            if not noted.exists():
                first = rows[-1]["dataset_to_index"] if rows else 0
                write_json(noted, self._write_file(file, self._refs[len(rows) :], len(rows), first))
            written = json.loads(noted.read_text())
            for row in written:
                self._exporter.number(row["tasks"])
            rows += written
            file += 1
        words = self._exporter.words
        write_meta(self._root, rows, words, self._features, self._fps, self._robot)
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
                row, table = self._exporter.export(episode, number, first)
                writer.write_table(table)
                rows.append(row | file_indices("data", file))
                number, first = number + 1, first + episode.n_frames
        os.replace(beside, path)
        return rows
