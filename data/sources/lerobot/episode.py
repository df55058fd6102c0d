"""One opened episode of a LeRobot dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.precision import loses_precision
from dipole.data.sources.lerobot.columns import numbers
from dipole.data.sources.lerobot.data_files import DataFile
from dipole.data.sources.lerobot.episodes import FileColumn
from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.sources.lerobot.images import images
from dipole.data.sources.lerobot.video_files import VideoFile, VideoFiles
from dipole.data.sources.lerobot.video_frames import (
    EpisodeFrames,
    UnknownFramesError,
    find_frames,
)
from dipole.data.sources.source import EpisodeRef
from dipole.data.store.schema import FrameSchema
from dipole.data.store.tasks import TaskSpans
from dipole.data.store.video import Clip, VideoError, video_error


@dataclass(frozen=True)
class Dataset:
    """What the episodes of a dataset share.

    frames: Schema by key. cameras: Where each camera's videos lie. lengths: Of all episodes.
    warn: Takes what is odd.
    """

    folder: DatasetFolder
    frames: Mapping[str, FrameSchema]
    cameras: Mapping[str, FileColumn]
    lengths: np.ndarray
    fps: float
    videos: VideoFiles
    warn: Callable[[str], None]


@dataclass(frozen=True)
class LeRobotEpisode:
    """See `SourceEpisode`.

    row: Of the episode table. file: Where its rows are. rows: Which, in the order of its frames.
    times: Seconds since its beginning, [n].
    """

    dataset: Dataset
    ref: EpisodeRef
    row: int
    file: DataFile
    rows: np.ndarray
    times: np.ndarray
    tasks: TaskSpans
    _found: dict[str, tuple[VideoFile, EpisodeFrames]] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        return len(self.rows)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if key in self.dataset.cameras:
            return self._decode(key, start, stop)
        schema, place = self.dataset.frames[key], self._place(key)
        column = self.file.read(key, self.rows[start:stop])
        if schema.kind in ("image", "depth"):
            return images(column, schema, place, start, self.dataset.folder)
        values = numbers(column, schema.shape or (), place, start)
        if schema.dtype != np.float64 and loses_precision(values):
            self.dataset.warn(
                f"{place}: float64 numbers that float32 cannot tell apart are stored as float32"
            )
        return values

    def clip(self, key: str) -> Clip | None:
        """Where the frames of a camera lie, None where they have to be decoded and chosen."""
        schema = self.dataset.frames[key]
        if key not in self.dataset.cameras or schema.storage != "video":
            return None
        file, chosen = self._video(key)
        if chosen.by_time:
            raise DataError(
                f"{self._place(key)}, {file.path.name}: {chosen.by_time}, so the frames nearest in "
                "time are taken, which are not one piece of video as those of other episodes are. "
                "Store all as pictures: --images zstd"
            )
        return self._clip(key, file, chosen)

    def _clip(self, key: str, file: VideoFile, chosen: EpisodeFrames) -> Clip:
        shape = self.dataset.frames[key].shape or ()
        return Clip(file.path, int(chosen.numbers[0]), self.n_frames, shape)

    def _decode(self, key: str, start: int, stop: int) -> np.ndarray:
        schema = self.dataset.frames[key]
        file, chosen = self._video(key)
        frames = np.empty((stop - start, *(schema.shape or ())), np.uint8)
        done = 0
        try:
            for frame in file.frames(chosen.numbers[start:stop].tolist()):
                frames[done] = frame
                done += 1
        except VideoError as error:
            place = f"{self._place(key)}, {file.path.name}, from frame {start} on"
            raise video_error(place, error) from error
        return frames

    def _video(self, key: str) -> tuple[VideoFile, EpisodeFrames]:
        """The file with the frames of a camera, and which they are."""
        if key not in self._found:
            dataset, column = self.dataset, self.dataset.cameras[key]
            name = column.name(self.row)
            place = f"{self._place(key)}, {name.rsplit('/', 1)[-1]}"
            try:
                file = dataset.videos.file(name)
                self._check_size(key, file)
                chosen = find_frames(
                    file, column, self.row, dataset.lengths, self.times, dataset.fps
                )
                if not chosen.by_time:
                    file.table.span(self._clip(key, file, chosen))
            except VideoError as error:
                raise video_error(place, error) from error
            except UnknownFramesError as error:
                raise DataError(f"{place}, {error}") from error
            for warning in chosen.warnings:
                dataset.warn(f"{place}: {warning}")
            self._found[key] = (file, chosen)
        return self._found[key]

    def _check_size(self, key: str, file: VideoFile) -> None:
        size = (file.header.height, file.header.width)
        expected = (self.dataset.frames[key].shape or ())[:2]
        if size != expected:
            raise VideoError(f"its pictures are {list(size)}, {list(expected)} expected")

    def _place(self, key: str) -> str:
        return f"{self.dataset.folder.path}: {key!r}, episode {self.ref.id}"


def dataset_error(place: str, what: Any) -> DataError:
    """An error of an episode whose rows are not as meta/ says."""
    return DataError(f"{place}: {what}. Copy the file again, or leave the episode out")
