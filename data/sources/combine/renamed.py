"""Keys of a source under other names, and names that no dataset can have, such as "eef quat"."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import (
    EpisodeRef,
    Source,
    SourceEpisode,
    SourceInfo,
    frames_of,
    is_valid_key,
)
from dipole.data.store.schema import check_key
from dipole.data.store.video import Clip


def renamed(source: Source, names: Mapping[str, str]) -> Source:
    """The source with its keys under new names, {old: new}.

    A key that is called `action` becomes one of kind action. Raises DataError for a key that is not
    there, and where two keys would have one name.
    """
    if not names:
        return source
    info = source.info
    frames_of(info, list(names))
    new_names = {key: names.get(key, key) for key in info.frames}
    for key, new in new_names.items():
        check_key(f"{info.path}: the new name of {key!r}", new)
        same = [old for old, name in new_names.items() if name == new]
        if len(same) > 1:
            raise DataError(f"{info.path}: {' and '.join(same)} would both be called {new!r}")
    frames = {}
    for key, schema in info.frames.items():
        new = new_names[key]
        was_state = schema.kind in ("", "state")
        frames[new] = replace(schema, kind="action") if new == "action" and was_state else schema
    said = ", ".join(f"{old} to {new}" for old, new in sorted(names.items()))
    described = replace(
        info,
        frames=frames,
        absent={new_names[key]: ids for key, ids in info.absent.items() if key in new_names},
        typed=frozenset(new_names.get(key, key) for key in info.typed),
        history=(*info.history, f"renamed {said}"),
    )
    return _Renamed(source, described, {new: old for old, new in new_names.items()})


def without_odd_names(source: Source, kept: Collection[str] = ()) -> Source:
    """The source, keys of odd names left out with the reason, but for those of `kept`, which are to
    be renamed."""
    info = source.info
    odd = {key for key in info.frames if not is_valid_key(key)} - set(kept)
    if not odd:
        return source
    why = {
        key: "its name has other characters than letters, digits, '_', '-', '.': take it by "
        f"--rename '{key}=NAME'"
        for key in sorted(odd)
    }
    return _WithoutOddNames(
        source,
        replace(
            info,
            frames={key: frame for key, frame in info.frames.items() if key not in odd},
            absent={key: ids for key, ids in info.absent.items() if key not in odd},
            left_out={**info.left_out, **why},
        ),
    )


class _WithoutOddNames(WrappedSource):
    def only(self, keys: Sequence[str]) -> Source:
        """See `selected`."""
        frames_of(self._info, keys)  # says why a key of an odd name cannot be taken
        only = getattr(self._source, "only", None)
        return self if only is None else only(keys)


class _Renamed(WrappedSource):
    def __init__(self, source: Source, info: SourceInfo, old_names: Mapping[str, str]) -> None:
        super().__init__(source, info)
        self._old_names = old_names

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _RenamedEpisode(self._source.open(ref), self._old_names)


class _RenamedEpisode(WrappedEpisode):
    def __init__(self, episode: SourceEpisode, old_names: Mapping[str, str]) -> None:
        super().__init__(episode)
        self._old_names = old_names

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self._episode.read(self._old_names[key], start, stop)

    def clip(self, key: str) -> Clip | None:
        return self._episode.clip(self._old_names[key])
