"""Several vectors of a source as one: actions of a left and a right arm, a pose and a gripper."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo, frames_of
from dipole.data.store.schema import FrameSchema, check_key
from dipole.data.store.video import Clip


def concatenated(source: Source, parts: Mapping[str, Sequence[str]]) -> Source:
    """The source with new keys that are others one after another, {new: (key, key, ...)}.

    The parts are vectors or single numbers; their names and units are joined. A part that is also
    called as the new key is replaced, the other parts stay. Raises DataError for a part that is not
    there or is no vector, and for a new key that exists already.
    """
    if not parts:
        return source
    info = source.info
    frames = dict(info.frames)
    absent = dict(info.absent)
    for key, names in parts.items():
        check_key(f"{info.path}: the concatenated key", key)
        if key in info.frames and key not in names:
            raise DataError(f"{info.path}: {key!r} exists already; rename it, or choose a new name")
        frames[key] = _concatenated_schema(info, key, names)
        missing = sorted({id for name in names for id in info.absent.get(name, ())})
        if missing:
            absent[key] = missing
    said = ", ".join(f"{key} of {' '.join(names)}" for key, names in sorted(parts.items()))
    described = replace(
        info, frames=frames, absent=absent, history=(*info.history, f"concatenated {said}")
    )
    return _Concatenated(source, described, parts)


class _Concatenated(WrappedSource):
    def __init__(
        self, source: Source, info: SourceInfo, parts: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__(source, info)
        self._parts = parts

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _ConcatenatedEpisode(self._source.open(ref), self._parts)


class _ConcatenatedEpisode(WrappedEpisode):
    def __init__(self, episode: SourceEpisode, parts: Mapping[str, Sequence[str]]) -> None:
        super().__init__(episode)
        self._parts = parts

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if key not in self._parts:
            return self._episode.read(key, start, stop)
        frames = [self._episode.read(name, start, stop) for name in self._parts[key]]
        return np.concatenate([part.reshape(len(part), -1) for part in frames], axis=1)

    def clip(self, key: str) -> Clip | None:
        return None if key in self._parts else self._episode.clip(key)


def _concatenated_schema(info: SourceInfo, key: str, names: Sequence[str]) -> FrameSchema:
    schemas = list(frames_of(info, names).values())
    if len(schemas) < len(names):
        raise DataError(f"{info.path}: a key is named twice in {key}={','.join(names)}")
    for name, schema in zip(names, schemas, strict=True):
        if len(schema.shape or ()) > 1 or schema.storage:
            raise DataError(
                f"{info.path}: {name!r} has frames of shape {list(schema.shape or ())}; "
                f"{key!r} is made of vectors only"
            )
    widths = [(schema.shape or (1,))[0] for schema in schemas]
    units = [
        unit
        for schema, width in zip(schemas, widths, strict=True)
        for unit in ([schema.units] * width if isinstance(schema.units, str) else schema.units)
    ]
    return FrameSchema(
        (sum(widths),),
        np.result_type(*(np.dtype(schema.dtype) for schema in schemas)),
        "action" if key == "action" else "state",
        units[0] if len(set(units)) == 1 else tuple(units),
        _joined_names(names, schemas, widths),
    )


def _joined_names(
    keys: Sequence[str], schemas: Sequence[FrameSchema], widths: Sequence[int]
) -> tuple[str, ...]:
    """Names of all entries; those of a key that names none are key.0, key.1; () where none does."""
    if not any(schema.names for schema in schemas):
        return ()
    names: list[str] = []
    for key, schema, width in zip(keys, schemas, widths, strict=True):
        names += schema.names or (key,) if width == 1 else schema.names or _numbered(key, width)
    if len(set(names)) < len(names):  # both arms call theirs "shoulder"
        names = []
        for key, schema, width in zip(keys, schemas, widths, strict=True):
            own = schema.names or (_numbered("", width) if width > 1 else ("",))
            names += [f"{key}.{name}".strip(".") for name in own]
    return tuple(names)


def _numbered(key: str, width: int) -> tuple[str, ...]:
    return tuple(f"{key}.{n}".strip(".") for n in range(width))
