"""Keys of a source in other dtypes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo, frames_of


def retyped(source: Source, dtypes: Mapping[str, str]) -> Source:
    """The source with keys stored as other dtypes, {key: "float64"}.

    Whole numbers may become floats; floats become whole numbers only where each of them is one and
    fits. Raises ConfigError for a dtype that holds no numbers; reading raises DataError for a frame
    that does not fit.
    """
    if not dtypes:
        return source
    info = source.info
    frames = dict(info.frames)
    for key in frames_of(info, list(dtypes)):
        if frames[key].storage == "video":
            raise DataError(f"{info.path}: {key!r} is video, which is always uint8")
        frames[key] = replace(frames[key], dtype=_dtype(key, dtypes[key]))
    said = ", ".join(f"{key} as {name}" for key, name in sorted(dtypes.items()))
    typed, history = info.typed | {*dtypes}, (*info.history, f"stored {said}")
    described = replace(info, frames=frames, typed=typed, history=history)
    return _Retyped(source, described, {key: np.dtype(frames[key].dtype) for key in dtypes})


class _Retyped(WrappedSource):
    def __init__(
        self, source: Source, info: SourceInfo, dtypes: Mapping[str, np.dtype[Any]]
    ) -> None:
        super().__init__(source, info)
        self._dtypes = dtypes

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _RetypedEpisode(
            self._source.open(ref), self._dtypes, f"{self.info.path}: episode {ref.id}"
        )


class _RetypedEpisode(WrappedEpisode):
    def __init__(
        self, episode: SourceEpisode, dtypes: Mapping[str, np.dtype[Any]], place: str
    ) -> None:
        super().__init__(episode)
        self._dtypes, self._place = dtypes, place

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        frames = self._episode.read(key, start, stop)
        if key not in self._dtypes:
            return frames
        dtype = self._dtypes[key]
        with np.errstate(over="ignore", invalid="ignore"):
            cast = frames.astype(dtype)
        if dtype.kind not in "f" and not np.array_equal(cast, frames):
            same = (cast == frames).reshape(len(frames), -1).all(1)
            raise DataError(
                f"{self._place}, {key!r}, frame {start + int(same.argmin())}: numbers that "
                f"{dtype} cannot hold"
            )
        return cast


def _dtype(key: str, name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise ConfigError(f"dtype of {key!r} is {name!r}: write e.g. float32 or int64") from error
    if dtype.kind not in "biuf":
        raise ConfigError(f"dtype of {key!r} is {name!r}, which holds no numbers")
    return dtype
