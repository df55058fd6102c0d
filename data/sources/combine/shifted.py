"""Keys of a source taken from later frames: the action of each frame from the next one, say.

frame           0  1  2  3
action          a  b  c  d
action=1        b  c  d  d
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo, frames_of


def parse_shift(words: Mapping[str, str]) -> dict[str, int]:
    """{"action": "1"} as numbers; raises ConfigError."""
    return {key: _frames(key, word) for key, word in words.items()}


def shifted(source: Source, shifts: Mapping[str, int]) -> Source:
    """The source with each frame's value of a key that of some frames later, {key: frames}; the
    last frame of an episode is repeated.

    Raises ConfigError for pictures, and for what is no number of frames.
    """
    if not shifts:
        return source
    info = source.info
    for key, schema in frames_of(info, list(shifts)).items():
        _frames(key, shifts[key])
        if schema.kind in ("image", "depth") or schema.storage:
            raise ConfigError(f"shift {key}={shifts[key]}: pictures are not shifted")
    history = (*info.history, *(f"shifted {key} by {n}" for key, n in sorted(shifts.items())))
    return _Shifted(source, replace(info, history=history), shifts)


class _Shifted(WrappedSource):
    def __init__(self, source: Source, info: SourceInfo, shifts: Mapping[str, int]) -> None:
        super().__init__(source, info)
        self._shifts = shifts

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _ShiftedEpisode(self._source.open(ref), self._shifts)


class _ShiftedEpisode(WrappedEpisode):
    def __init__(self, episode: SourceEpisode, shifts: Mapping[str, int]) -> None:
        super().__init__(episode)
        self._shifts = shifts

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        by = self._shifts.get(key, 0)
        if not by or stop <= start:
            return self._episode.read(key, start, stop)
        last = self.n_frames - 1
        found = self._episode.read(key, min(start + by, last), min(stop + by, last + 1))
        return np.concatenate([found, found[-1:].repeat(stop - start - len(found), 0)])


def _frames(key: str, said: str | int) -> int:
    if not str(said).isdecimal() or int(said) < 1:
        raise ConfigError(f"shift {key}={said}: KEY=FRAMES, frames from 1 on, as action=1")
    return int(said)
