"""A dataset whose pictures have another size: stored, decoded and sent as the network sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import (
    EpisodeRef,
    Source,
    SourceEpisode,
    SourceInfo,
    frame_ranges,
    frames_of,
)
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip
from dipole.data.transforms.pictures import Size, resized_depth, resized_pictures

ALL = ""  # the key of a size for all pictures that have none of their own
LARGEST = 8192  # pixels of a side
SAME_ASPECT = 0.01  # by how much the ratio of the sides may change without being spoken of


def parse_resize(words: Sequence[str]) -> dict[str, Size]:
    """Sizes by key, of `240x320` for all pictures and `wrist=96x128` for one; raises ConfigError.

    >>> parse_resize(["240x320", "wrist=96x96"])
    {'': (240, 320), 'wrist': (96, 96)}
    """
    sizes: dict[str, Size] = {}
    for word in words:
        key, equals, said = word.rpartition("=")
        numbers = said.lower().replace("×", "x").split("x")
        if (equals and not key) or len(numbers) != 2 or not all(map(str.isdecimal, numbers)):
            raise ConfigError(
                f"resize {word!r}: HEIGHTxWIDTH for all pictures, or KEY=HEIGHTxWIDTH for one, as "
                "240x320 or wrist=96x128"
            )
        height, width = map(int, numbers)
        if not 1 <= min(height, width) <= max(height, width) <= LARGEST:
            raise ConfigError(f"resize {word!r}: sides are 1 to {LARGEST} pixels")
        if key in sizes:
            raise ConfigError(f"resize: {key or 'the size of all pictures'} is said twice")
        sizes[key] = (height, width)
    return sizes


def resized(source: Source, sizes: Mapping[str, Size]) -> Source:
    """The source with pictures, also of video, and depth in these sizes by key, "" for all others.

    Raises ConfigError for a key that is not there or is no picture, DataError where there is none.
    """
    info = source.info
    named = frames_of(info, [key for key in sizes if key != ALL])
    seen = [key for key, schema in info.frames.items() if _is_picture(schema)]
    for key, schema in named.items():
        if key not in seen:
            raise ConfigError(
                f"{info.path}: resize {key}: its frames {list(schema.shape or ())} are no pictures"
            )
    if ALL in sizes and not seen:
        raise DataError(f"{info.path}: resize: none of the keys taken is a picture")
    wanted = {key: sizes.get(key, sizes.get(ALL, _size(info.frames[key]))) for key in seen}
    changed = {key: size for key, size in wanted.items() if size != _size(info.frames[key])}
    return _Resized(source, changed) if changed else source


class _Resized(WrappedSource):
    def __init__(self, source: Source, sizes: Mapping[str, Size]) -> None:
        info = source.info
        self._sizes = sizes
        frames = dict(info.frames)
        for key, size in sizes.items():
            rest = (frames[key].shape or ())[2:]
            frames[key] = replace(frames[key], shape=(*size, *rest), storage="")
        said = ", ".join(f"{key} {height}x{width}" for key, (height, width) in sizes.items())
        super().__init__(
            source,
            replace(
                info,
                frames=frames,
                warnings=(*info.warnings, *_distorted(info, sizes)),
                history=(*info.history, f"resized {said}"),
            ),
        )

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _ResizedEpisode(self._source.open(ref), self._sizes, self._source.info.frames)


class _ResizedEpisode(WrappedEpisode):
    """frames: the schema of the pictures as `episode` has them."""

    def __init__(
        self,
        episode: SourceEpisode,
        sizes: Mapping[str, Size],
        frames: Mapping[str, FrameSchema],
    ) -> None:
        super().__init__(episode)
        self._sizes, self._frames = sizes, frames

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if key not in self._sizes:
            return self._episode.read(key, start, stop)
        schema = self._frames[key]
        resize = resized_pictures if _is_colour(schema) else resized_depth
        parts = [  # not all at once: what is read may be a hundred times what is asked for
            resize(self._episode.read(key, first, last), self._sizes[key])
            for first, last in frame_ranges(schema, stop, start)
        ]
        return np.concatenate(parts)

    def clip(self, key: str) -> Clip | None:
        return None if key in self._sizes else self._episode.clip(key)


def _is_picture(schema: FrameSchema) -> bool:
    return _is_colour(schema) or schema.kind == "depth"


def _is_colour(schema: FrameSchema) -> bool:
    uint8 = np.dtype(schema.dtype) == np.uint8
    return uint8 and schema.kind == "image" and len(schema.shape or ()) == 3


def _size(schema: FrameSchema) -> Size:
    height, width = (schema.shape or ())[:2]
    return height, width


def _distorted(info: SourceInfo, sizes: Mapping[str, Size]) -> list[str]:
    said = []
    for key, (height, width) in sizes.items():
        rows, columns = _size(info.frames[key])
        if abs(width * rows / (height * columns) - 1) > SAME_ASPECT:
            said.append(
                f"{info.path}: {key!r}, {rows}x{columns}, becomes {height}x{width}: another ratio "
                f"of the sides, so what is seen is stretched; {height}x"
                f"{max(1, round(height * columns / rows))} would keep it"
            )
    return said
