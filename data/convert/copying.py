"""A source's episodes going into a store, one after another."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, frame_ranges
from dipole.data.store.schema import FrameSchema, is_stored_as_image, refuse_narrowing
from dipole.data.store.video import VideoError, video_error
from dipole.data.store.writer import StoreWriter

Progress = Callable[[int, int, str], object]  # frames done, frames in all, what is done now


class EpisodeCopier:
    """Writes the episodes of `source` that `writer` does not have yet, and finishes the store.

    keep_video: Whether packets of video are kept; otherwise its pictures are stored.
    """

    def __init__(
        self, source: Source, writer: StoreWriter, keep_video: bool, progress: Progress
    ) -> None:
        self._source, self._info, self._writer = source, source.info, writer
        self._refs = source.episodes()
        self._keep_video = keep_video
        self._videos: tuple[str, ...] = ()  # keys whose packets are kept
        self._keys = list(self._info.frames)
        self._progress = _FrameProgress(progress, self._refs, len(self._keys), writer.n_frames)

    def run(self) -> None:
        """Raises DataError, naming episode and frame, for what cannot be read."""
        first = self._source.open(self._refs[0])  # also of a conversion that goes on
        self._videos = self._kept_videos(first)
        for number in range(self._writer.n_episodes, len(self._refs)):
            self._episode(self._source.open(self._refs[number]) if number else first)
        self._writer.finish(self._attributes())

    def _episode(self, episode: SourceEpisode) -> None:
        if episode.n_frames < 1:
            raise DataError(
                f"{self._info.path}: episode {episode.ref.id} has no frames: leave it out"
            )
        for key, schema in self._info.frames.items():
            place = f"{self._info.path}: {key!r}, episode {episode.ref.id}"
            if key in self._videos:
                self._copy_video(place, episode, key)
            else:
                self._copy_frames(place, episode, key, schema)
        self._writer.commit_episode(episode.n_frames, episode.tasks, episode.ref.numbers)
        self._progress.episode_done(episode)

    def _copy_frames(
        self, place: str, episode: SourceEpisode, key: str, schema: FrameSchema
    ) -> None:
        array = self._writer.array(
            key, schema.shape or (), np.dtype(schema.dtype), is_stored_as_image(schema)
        )
        for start, stop in frame_ranges(schema, episode.n_frames):
            frames = fitted(place, schema, key, episode.read(key, start, stop))
            if len(frames) != stop - start:
                raise DataError(f"{place}: {start + len(frames)} frames of {episode.n_frames}")
            array.append(frames)
            self._progress.frames_done(episode, self._keys.index(key), key, stop)

    def _copy_video(self, place: str, episode: SourceEpisode, key: str) -> None:
        self._progress.frames_done(episode, self._keys.index(key), key, 0)
        if self._info.fps is None:
            raise DataError(f"{place}: video, and its frames per second are not recorded")
        clip = episode.clip(key)
        if clip is None:
            raise DataError(
                f"{place}: no video, as other episodes have. Store all as pictures: --images zstd"
            )
        if clip.n_frames != episode.n_frames:
            raise DataError(
                f"{place}: a video of {clip.n_frames} frames beside "
                f"{episode.n_frames} rows. Leave the episode out"
            )
        try:
            self._writer.add_video(key, clip, self._info.fps)
        except VideoError as error:
            raise video_error(f"{place}, {clip.path.name}", error) from error

    def _kept_videos(self, episode: SourceEpisode) -> tuple[str, ...]:
        frames = self._info.frames if self._keep_video else {}
        return tuple(
            key
            for key, schema in frames.items()
            if schema.storage == "video" and episode.clip(key) is not None
        )

    def _attributes(self) -> dict[str, Any]:
        schema = {}
        for key, frame in self._info.frames.items():
            storage = "video" if key in self._videos else ""
            schema[key] = replace(frame, storage=storage).to_dict()
        attributes: dict[str, Any] = {**self._info.attributes, "schema": schema}
        if self._info.fps is not None:
            attributes["fps"] = self._info.fps
        if self._info.environment:
            attributes["environment"] = self._info.environment
        return attributes


class _FrameProgress:
    """Frames done of all, each counted once for every key.

    Episodes of unknown length are taken to be as long as those done so far.
    """

    def __init__(
        self, report: Progress, refs: Sequence[EpisodeRef], n_keys: int, n_frames: int
    ) -> None:
        self._report, self._n_keys, self._done = report, n_keys, n_frames
        self._known = sum(ref.n_frames or 0 for ref in refs)
        self._unknown = sum(ref.n_frames is None for ref in refs)
        self._episodes = 0

    def frames_done(self, episode: SourceEpisode, number: int, key: str, n_frames: int) -> None:
        """`n_frames` of the episode's key, which is the `number`th, are done."""
        mean = self._done / self._episodes if self._episodes else episode.n_frames
        total = self._n_keys * (self._known + int(self._unknown * mean))
        done = self._n_keys * self._done + number * episode.n_frames + n_frames
        self._report(min(done, total), max(total, 1), f"episode {episode.ref.id}, {key}")

    def episode_done(self, episode: SourceEpisode) -> None:
        self._done += episode.n_frames
        self._episodes += 1


def fitted(place: str, schema: FrameSchema, key: str, frames: np.ndarray) -> np.ndarray:
    """Frames of a source as they are stored; see `FrameSchema.fit`.

    Raises DataError also where numbers need float64 and the first ones did not.
    """
    refuse_narrowing(place, schema, frames, f"say --dtype {key}=float64")
    return schema.fit(place, frames)
