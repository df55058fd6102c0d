"""A dataset with columns converted for good: quaternions stored as 6 numbers, degrees as radians.

A task's `convert` does the same while training, invertibly, and leaves the data as the robot takes
them; that is the better choice unless another program is to read the result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.core.units import read_units
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode
from dipole.data.store.schema import FrameSchema
from dipole.data.transforms.conversion import Conversion, Conversions


@dataclass(frozen=True)
class KeyConversion:
    """A transform of columns of a key. columns: None for all of them."""

    key: str
    columns: tuple[int, ...] | None
    transform: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        columns = "" if self.columns is None else ":" + "+".join(map(str, self.columns))
        options = "".join(f",{name}={value}" for name, value in self.options.items())
        return f"{self.key}{columns}={self.transform}{options}"


def parse_convert(word: str) -> KeyConversion:
    """`action:3-6=quaternion_to_6d`: KEY, its columns, TRANSFORM, and its options after commas.

    Columns are numbers and ranges, "0,3-6"; without them all are taken. Raises ConfigError.
    """
    left, equals, right = word.partition("=")
    key, colon, listed = left.partition(":")
    transform, *settings = right.split(",")
    if not (key and equals and transform) or (colon and not listed):
        raise ConfigError(
            f"convert {word!r}: KEY:COLUMNS=TRANSFORM, as action:3-6=quaternion_to_6d"
        )
    options = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise ConfigError(f"convert {word!r}: {setting!r} is no option NAME=VALUE")
        options[name] = _value(value)
    return KeyConversion(key, _columns(word, listed) if colon else None, transform, options)


def converted(source: Source, conversions: Sequence[KeyConversion]) -> Source:
    """The source with these columns converted; names and units follow.

    Raises DataError for a key that is not there, ConfigError for a conversion that cannot be.
    """
    return _Converted(source, conversions) if conversions else source


class _Converted(WrappedSource):
    def __init__(self, source: Source, conversions: Sequence[KeyConversion]) -> None:
        info = source.info
        by_key: dict[str, list[KeyConversion]] = {}
        for each in conversions:
            if each.key not in info.frames:
                hint = nearest(each.key, info.frames) or "."
                raise ConfigError(
                    f"{info.path}: convert {each}: no key {each.key!r}{hint} It has: "
                    f"{', '.join(info.frames)}"
                )
            by_key.setdefault(each.key, []).append(each)
        self._functions = {key: _function(info.frames[key], by_key[key]) for key in by_key}
        frames = {
            key: _schema(schema, self._functions[key]) if key in by_key else schema
            for key, schema in info.frames.items()
        }
        history = (*info.history, *(f"convert {each}" for each in conversions))
        super().__init__(source, replace(info, frames=frames, history=history))

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        place = f"{self._info.path}: episode {ref.id}"
        return _ConvertedEpisode(self._source.open(ref), self._functions, self._info.frames, place)


class _ConvertedEpisode(WrappedEpisode):
    def __init__(
        self,
        episode: SourceEpisode,
        functions: Mapping[str, Conversions],
        frames: Mapping[str, FrameSchema],
        place: str,
    ) -> None:
        super().__init__(episode)
        self._functions, self._frames, self._place = functions, frames, place

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        stored = self._episode.read(key, start, stop)
        if key not in self._functions:
            return stored
        if stored.ndim == 1:
            stored = stored[:, None]
        try:
            made = self._functions[key].apply(stored)
        except ValueError as error:
            raise DataError(
                f"{self._place}, {key!r}, frames {start} to {stop - 1}: {error}"
            ) from error
        # Those that float32 is too coarse for are left to whoever stores them, who says so.
        return made


def _function(schema: FrameSchema, conversions: Sequence[KeyConversion]) -> Conversions:
    shape = schema.shape or (1,)
    if schema.kind in ("image", "depth"):
        raise ConfigError(f"convert {conversions[0]}: {conversions[0].key!r} are pictures")
    made = []
    for each in conversions:
        columns = tuple(range(shape[-1])) if each.columns is None else each.columns
        try:
            made.append(Conversion(columns, each.transform, each.options))
        except ConfigError as error:
            raise ConfigError(f"convert {each}: {error}") from error
    return Conversions(made, shape[-1])


def _schema(schema: FrameSchema, function: Conversions) -> FrameSchema:
    shape = schema.shape or (1,)
    wide = np.dtype(schema.dtype) == np.float64
    return replace(
        schema,
        shape=(*shape[:-1], function.output_size),
        dtype=np.dtype(np.float64 if wide else np.float32),
        units=read_units(function.units(schema.units)),
        names=function.names(schema.names),
    )


def _value(text: str) -> Any:
    """A number, true, false, or text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _columns(word: str, listed: str) -> tuple[int, ...]:
    columns: list[int] = []
    for part in listed.replace("+", ",").split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"convert {word!r}: columns {listed!r}: as 0,3-6, counted from 0")
        if dash and int(last) < int(first):
            raise ConfigError(f"convert {word!r}: columns {part}: the range runs backwards")
        columns += range(int(first), int(last if dash else first) + 1)
    return tuple(columns)
