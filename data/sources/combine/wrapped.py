"""A source made of another one: as it is, except for what a subclass says otherwise."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.tasks import TaskSpans
from dipole.data.store.video import Clip


class WrappedSource:
    """`source` under another description; see `Source`."""

    def __init__(self, source: Source, info: SourceInfo) -> None:
        self._source, self._info = source, info

    @property
    def info(self) -> SourceInfo:
        warnings = dict.fromkeys((*self._info.warnings, *self._source.info.warnings))
        return replace(self._info, warnings=tuple(warnings))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._source.episodes()

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return self._source.open(ref)

    def close(self) -> None:
        self._source.close()


class WrappedEpisode:
    """`episode` under another reference; see `SourceEpisode`."""

    def __init__(self, episode: SourceEpisode, ref: EpisodeRef | None = None) -> None:
        self._episode = episode
        self.ref = ref or episode.ref

    @property
    def n_frames(self) -> int:
        return self._episode.n_frames

    @property
    def tasks(self) -> TaskSpans:
        return self._episode.tasks

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self._episode.read(key, start, stop)

    def clip(self, key: str) -> Clip | None:
        return self._episode.clip(key)
