"""LeRobot datasets, versions 2.0, 2.1 and 3.0, as a source.

Keys keep their names (`observation.state`, `observation.images.top`, `action`). What merely counts
(timestamp, frame_index, episode_index, index, task_index) is no key: the tasks are kept in words.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.lerobot.data_files import DataFiles
from dipole.data.sources.lerobot.episode import Dataset, LeRobotEpisode, dataset_error
from dipole.data.sources.lerobot.folder import NOT_DOWNLOADED, DatasetFolder
from dipole.data.sources.lerobot.inspection import inspected_frames
from dipole.data.sources.lerobot.meta import LeRobotMeta, read_meta
from dipole.data.sources.lerobot.tasks import task_spans
from dipole.data.sources.lerobot.timing import check_times, frame_order
from dipole.data.sources.lerobot.video_files import VideoFiles
from dipole.data.sources.source import EpisodeRef, SourceInfo, SourceWarnings


class LeRobotSource(SourceWarnings):
    """The LeRobot dataset in the folder `path`; see `Source`. Raises DataError."""

    def __init__(self, path: Path) -> None:
        self._folder = DatasetFolder(path)
        self._meta = meta = read_meta(self._folder)
        self._data, self._videos = DataFiles(self._folder), VideoFiles(self._folder)
        frames, left_out, warnings = inspected_frames(self._folder, meta, self._data)
        absent, dangling = _absent(self._folder, meta, list(frames))
        warnings = [*meta.warnings, *warnings, *dangling]
        info = SourceInfo(
            path,
            f"LeRobot v{meta.version}",
            frames,
            meta.fps,
            {"id": meta.robot, "version": ""} if meta.robot else {},
            absent,
            {**meta.left_out, **left_out},
            warnings=tuple(f"{path}: {text}" for text in warnings),
        )
        super().__init__(info)
        cameras = {key: column for key, column in meta.episodes.videos.items() if key in frames}
        self._dataset = Dataset(
            self._folder,
            frames,
            cameras,
            meta.episodes.lengths,
            meta.fps,
            self._videos,
            self.warn,
        )

    def episodes(self) -> Sequence[EpisodeRef]:
        table = self._meta.episodes
        pairs = zip(table.ids.tolist(), table.lengths.tolist(), strict=True)
        return [EpisodeRef(id, n) for id, n in pairs]

    def open(self, ref: EpisodeRef) -> LeRobotEpisode:
        table, row = self._meta.episodes, self._meta.episodes.row(ref.id)
        place = f"{self._folder.path}: episode {ref.id}"
        try:
            file = self._data.file(table.data.name(row))
        except DataError as error:
            raise DataError(f"{place}: {error}, or leave the episode out") from error
        rows = file.rows(ref.id)
        n = int(table.lengths[row])
        if len(rows) != n:
            raise dataset_error(f"{file.path}: episode {ref.id}", f"{len(rows)} frames of {n}")
        order, odd = frame_order(place, file.counter("frame_index", rows), n)
        rows = rows[order]
        times = file.counter("timestamp", rows)
        if times is not None:
            odd += check_times(place, times, self._meta.fps)
        seconds = np.arange(n) / self._meta.fps if times is None else times.astype(np.float64)
        spans, unknown = task_spans(
            place, file.counter("task_index", rows), self._meta.tasks, table.tasks[row]
        )
        self.warn(*odd, *unknown)
        return LeRobotEpisode(self._dataset, ref, row, file, rows, seconds, spans)

    def close(self) -> None:
        self._data.close()


def _absent(
    folder: DatasetFolder, meta: LeRobotMeta, keys: Sequence[str]
) -> tuple[dict[str, list[int]], list[str]]:
    """For each camera, the episodes whose videos are missing; and whether they are links."""
    absent: dict[str, list[int]] = {}
    dangling: list[str] = []
    for key, column in meta.episodes.videos.items():
        if key not in keys:
            continue
        missing = [n for n, name in enumerate(column.names) if not folder.has(name)]
        gone: Any = np.isin(column.numbers, missing)
        if gone.any():
            absent[key] = meta.episodes.ids[gone].tolist()
        dangling += [column.names[n] for n in missing if folder.is_dangling(column.names[n])][:1]
    return absent, [f"{name} is {NOT_DOWNLOADED}" for name in dangling[:1]]
