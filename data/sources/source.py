"""What a dataset looks like to the conversion, whatever its format.

A source names its keys and episodes, and opens one episode at a time. It knows what is missing:
`absent` holds, for each key, the episodes whose frames cannot be read. docs/architecture.md shows
a source of one's own.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.store.objects.url import DatasetPath
from dipole.data.store.schema import FrameSchema, check_key
from dipole.data.store.tasks import TaskSpans
from dipole.data.store.video import Clip

READ_BYTES = 16 * 2**20  # of frames that are read at once


@dataclass(frozen=True)
class EpisodeRef:
    """One episode of a source, not opened.

    id: The source's own number.
    n_frames: Frames, None where that is unknown until the episode is opened.
    name: What the source calls it, such as "demo_7".
    numbers: Integers of the episode as a whole, such as its seed.
    """

    id: int
    n_frames: int | None = None
    name: str = ""
    numbers: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SourceInfo:
    """What a source is, known without reading frames.

    path: Where it lies.
    format: Its name, for people.
    frames: Schema by key.
    fps: Frames a second, None where that is not recorded.
    environment: `id` and `version` of the simulator or robot.
    absent: For each key, ids of the episodes whose frames cannot be read.
    left_out: Keys of the source that are not taken, and why.
    unreadable: Keys that are damaged or not understood, and why: all others can be chosen.
    warnings: Oddities found while opening; more may come as episodes are opened.
    groups: Named subsets of the episodes' ids, such as robomimic's masks.
    attributes: What else the dataset says of itself, plain JSON: how it was recorded, notes. What
        other formats say stands under "source_attributes".
    typed: Keys of which it is said that they are numbers, or in which dtype: they stay as they are,
        whatever they look like.
    history: What was joined, mirrored, renamed and so on; an unfinished conversion goes on only
        where it is the same.
    """

    path: DatasetPath
    format: str
    frames: dict[str, FrameSchema]
    fps: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, list[int]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    typed: frozenset[str] = frozenset()
    history: tuple[str, ...] = ()


class SourceEpisode(Protocol):
    """One opened episode: its length and words, and its frames. Reading raises DataError."""

    @property
    def ref(self) -> EpisodeRef: ...

    @property
    def n_frames(self) -> int: ...

    @property
    def tasks(self) -> TaskSpans: ...

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop): [stop - start, *shape]."""

    def clip(self, key: str) -> Clip | None:
        """Where the frames lie in a video, or None where they lie in none."""


class Source(Protocol):
    """A dataset to convert: read-only, its episodes opened one at a time."""

    @property
    def info(self) -> SourceInfo: ...

    def episodes(self) -> Sequence[EpisodeRef]: ...

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        """Open an episode of `episodes()`; raises DataError, naming it, where it is damaged."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class ArrayEpisode:
    """An episode whose frames are in memory: arrays [n_frames, *shape] by key.

    Raises DataError for arrays of different lengths.
    """

    ref: EpisodeRef
    arrays: Mapping[str, np.ndarray]
    tasks: TaskSpans = ()

    def __post_init__(self) -> None:
        lengths = {key: len(array) for key, array in self.arrays.items()}
        if len(set(lengths.values())) > 1:
            place = self.ref.name or f"episode {self.ref.id}"
            raise DataError(f"{place}: its arrays have different numbers of frames: {lengths}")

    @property
    def n_frames(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self.arrays[key][start:stop]

    def clip(self, key: str) -> None:
        return None


class SourceWarnings:
    """The part of a source that says what is odd as its episodes are opened; see `Source.info`."""

    def __init__(self, info: SourceInfo) -> None:
        self._info = info
        self._warnings = dict.fromkeys(info.warnings)

    @property
    def info(self) -> SourceInfo:
        return replace(self._info, warnings=tuple(self._warnings))

    def warn(self, *warnings: str) -> None:
        """Say these, each once."""
        self._warnings.update(dict.fromkeys(warnings))

    def warn_of_others(self, places: Iterable[str], known: Collection[str]) -> None:
        """Say which of an episode's arrays the first episode does not have."""
        for place in sorted(set(places) - set(known)):
            self.warn(
                f"{self._info.path}: {place} is left out, because the first episode does not have "
                "it"
            )


def frames_of(info: SourceInfo, keys: Sequence[str] | None) -> dict[str, FrameSchema]:
    """The schema of these keys, None for all; raises ConfigError for one that is not there."""
    for key in keys or ():
        why = info.unreadable.get(key) or info.left_out.get(key)
        if why:
            raise DataError(f"{info.path}: {key!r} cannot be taken: {why}")
        if key not in info.frames:
            hint = nearest(key, info.frames)
            raise ConfigError(
                f"{info.path}: no key {key!r}{hint or '.'} It has: {', '.join(info.frames)}"
            )
    return {key: info.frames[key] for key in (info.frames if keys is None else keys)}


def frame_ranges(schema: FrameSchema, n_frames: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Ranges of frames that cover [start, n_frames), each of at most READ_BYTES."""
    size = int(np.prod(schema.shape or (), dtype=np.int64)) * np.dtype(schema.dtype).itemsize
    step = max(READ_BYTES // max(size, 1), 1)
    for first in range(start, n_frames, step):
        yield first, min(first + step, n_frames)


def first_frames(shape: tuple[int, ...]) -> int:
    """How many frames of an array of float64 [frames, ...] tell whether they need it: those of an
    episode, at most READ_BYTES, and at least one.

    shape: Of the array.
    """
    schema = FrameSchema(tuple(shape[1:]), np.dtype(np.float64))
    return next((stop for _, stop in frame_ranges(schema, shape[0])), 0)


def is_valid_key(key: str) -> bool:
    """Whether a store can have a key of this name."""
    try:
        check_key("", key)
    except DataError:
        return False
    return True


def leave_out(key: str) -> str:
    """What to do about an array that is not as the others are, for the end of an error."""
    return f"leave the episode out, or the key {key!r}, by --keys with the others"


def task_spans(words: str) -> TaskSpans:
    """The spans of an episode with one task; () where there are no words."""
    return ((0, words),) if words else ()


def source_attributes(said: Mapping[str, Any]) -> dict[str, Any]:
    """`SourceInfo.attributes` of another format's notes, as far as JSON holds them."""
    plain = {name: found for name, value in said.items() if (found := _plain(value)) is not None}
    return {"source_attributes": plain} if plain else {}


def _plain(value: Any) -> Any:
    """As JSON has it; None for what it cannot hold."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return None


def positive_number(value: Any) -> float | None:
    """The value where it is a positive finite number, such as frames a second; otherwise None."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if sound else None
