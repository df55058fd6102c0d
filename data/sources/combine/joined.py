"""Several datasets as one source: their episodes one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.source import (
    Source,
    SourceEpisode,
    SourceInfo,
    frames_of,
    open_source,
    with_missing_metadata,
)
from dipole.data.store.video import Clip


class JoinedSource:
    """Reads `keys` of `sources`, which agree in their shapes and frame rates; see `Source`.

    keys: None for all. Episodes are numbered anew, in the order of the sources. Raises DataError,
    naming both, where two of them do not agree.
    """

    def __init__(self, sources: Sequence[Source], keys: Sequence[str] | None = None) -> None:
        if not sources:
            raise DataError("nothing to join: name at least one dataset")
        abouts = [replace(s.about, frames=frames_of(s.about, keys)) for s in sources]
        first = abouts[0]
        for other in abouts[1:]:
            _check_alike(first, other)
        self._episodes = [(source, e) for source in sources for e in source.about.episodes]
        starts = np.cumsum([0, *(len(source.about.episodes) for source in sources)]).tolist()
        absent: dict[str, list[int]] = {}
        for source, start in zip(sources, starts[:-1], strict=True):
            place = {e.number: start + k for k, e in enumerate(source.about.episodes)}
            for key, numbers in source.about.absent.items():
                absent.setdefault(key, []).extend(place[number] for number in numbers)
        episodes = [replace(e, number=k) for k, (_, e) in enumerate(self._episodes)]
        also = tuple(source.about.path for source in sources[1:])
        environment = _in_common([about.environment for about in abouts])
        self.about = replace(
            first, episodes=episodes, absent=absent, also=also, environment=environment
        )

    def read(self, episode: SourceEpisode, key: str, start: int, stop: int) -> np.ndarray:
        source, original = self._episodes[episode.number]
        return source.read(original, key, start, stop)

    def clip(self, episode: SourceEpisode, key: str) -> Clip | None:
        source, original = self._episodes[episode.number]
        return source.clip(original, key)


def open_joined(
    paths: Sequence[str | Path],
    keys: Sequence[str] | None = None,
    fps: float | None = None,
    environment: str = "",
) -> JoinedSource:
    """The datasets at `paths`, of any format that is known, as one.

    fps, environment: of those that do not record them; see `with_missing_metadata`.
    """
    sources = [open_source(path) for path in paths]
    for source in sources:
        with_missing_metadata(source, fps, environment)
    return JoinedSource(sources, keys)


def _in_common(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say: a version that one of them does not know is not that of all."""
    first, *others = environments
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _check_alike(first: SourceInfo, other: SourceInfo) -> None:
    here, there = first.frames, other.frames
    if set(here) != set(there):
        raise DataError(
            f"{other.path} has the keys {', '.join(sorted(there))}, but {first.path} has "
            f"{', '.join(sorted(here))}: take what both have by keys=..."
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
            f"{other.path} {_rate(other)}, but {first.path} {_rate(first)}{_say(first, other)}"
        )
    both = set(first.environment) & set(other.environment)
    same = all(first.environment[word] == other.environment[word] for word in both)
    if not same or bool(first.environment) != bool(other.environment):
        raise DataError(
            f"{other.path} was recorded in {_where(other)}, but {first.path} in {_where(first)}"
            + ("" if both else ": say what is not recorded by environment=NAME")
        )


def _rate(about: SourceInfo) -> str:
    return "records no frame rate" if about.fps is None else f"has {about.fps:g} frames a second"


def _say(first: SourceInfo, other: SourceInfo) -> str:
    return ": say what is not recorded by fps=N" if None in (first.fps, other.fps) else ""


def _where(about: SourceInfo) -> str:
    return " ".join(map(str, about.environment.values())) or "an unknown environment"
