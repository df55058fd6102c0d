"""Several datasets as one source: their episodes one after another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dipole.data.errors import DataError
from dipole.data.formats.source import About, Source, SourceEpisode, open_source
from dipole.data.formats.video import Clip


class JoinedSource:
    """Reads from `sources`, whose keys, shapes and frame rates agree; see `Source`.

    Episodes are numbered anew, in the order of the sources. Raises DataError, naming both, where
    two of them do not agree.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise DataError("nothing to join: name at least one dataset")
        first = sources[0].about
        for source in sources[1:]:
            _check_alike(first, source.about)
        self._episodes = [(source, e) for source in sources for e in source.about.episodes]
        starts = np.cumsum([0, *(len(source.about.episodes) for source in sources)]).tolist()
        absent: dict[str, list[int]] = {}
        for source, start in zip(sources, starts[:-1], strict=True):
            place = {e.number: start + k for k, e in enumerate(source.about.episodes)}
            for key, numbers in source.about.absent.items():
                absent.setdefault(key, []).extend(place[number] for number in numbers)
        episodes = [replace(e, number=k) for k, (_, e) in enumerate(self._episodes)]
        also = tuple(source.about.path for source in sources[1:])
        self.about = replace(first, episodes=episodes, absent=absent, also=also)

    def read(self, episode: SourceEpisode, key: str, start: int, stop: int) -> np.ndarray:
        source, original = self._episodes[episode.number]
        return source.read(original, key, start, stop)

    def clip(self, episode: SourceEpisode, key: str) -> Clip | None:
        source, original = self._episodes[episode.number]
        return source.clip(original, key)


def open_joined(paths: Sequence[str | Path]) -> JoinedSource:
    """The datasets at `paths`, of any format that is known, as one."""
    return JoinedSource([open_source(path) for path in paths])


def _check_alike(first: About, other: About) -> None:
    here, there = first.frames, other.frames
    if set(here) != set(there):
        raise DataError(
            f"{other.path} has the keys {', '.join(sorted(there))}, but {first.path} has "
            f"{', '.join(sorted(here))}: convert one of them with keys=... first"
        )
    for key in here:
        for what in ("kind", "shape", "dtype", "units", "storage"):
            one, two = getattr(here[key], what), getattr(there[key], what)
            if one != two:
                raise DataError(
                    f"{other.path}: {what} of {key!r} is {two!r}, but {one!r} in {first.path}"
                )
    if first.fps != other.fps:
        raise DataError(
            f"{other.path} has {other.fps} frames a second, but {first.path} has {first.fps}"
        )
    if first.environment != other.environment:
        raise DataError(
            f"{other.path} was recorded in {other.environment or 'an unknown environment'}, but "
            f"{first.path} in {first.environment or 'an unknown one'}"
        )
