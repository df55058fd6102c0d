"""A dataset without the time in which nothing moves.

Demonstrations begin before the operator does and end after. A policy that learns to stand still
where it stands still in the data may never begin. A frame is idle where no number of the action or
of the states leaves a tolerance, a share of its range over the dataset, around where it was when
the stretch began.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.sources.combine.picked import PickedEpisode, without_video
from dipole.data.sources.combine.wrapped import WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.numbers import without_seed
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip
from dipole.data.transforms.idle import (
    EVEN,
    counted_steps,
    idle_end,
    idle_start,
    idle_stretches,
    is_measured,
    tolerances,
)


@dataclass(frozen=True)
class Trim:
    """What is cut out.

    everywhere: Idle stretches in the middle too, not only at the ends.
    keep: Seconds of each stretch that stay: at the ends those next to the motion.
    least: Seconds from which on a stretch in the middle is one.
    tolerance: Share of a number's range within which it stands still.
    """

    everywhere: bool = False
    keep: float = 0.2
    least: float = 1.0
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"trim: tolerance is {self.tolerance}: a share between 0 and 1")
        if not (self.keep >= 0 and self.least > 0 and self.keep < self.least):
            raise ConfigError(
                f"trim: keep is {self.keep} and least {self.least} seconds: keep is at least 0 and "
                "less than least"
            )


def parse_trim(word: str) -> Trim:
    """`idle` at the ends, `idle:all` everywhere, with numbers after it: `idle,keep=0.5`.

    Raises ConfigError for anything else.
    """
    what, *settings = word.split(",")
    if what not in ("idle", "idle:all"):
        raise ConfigError(f"trim {word!r}: idle, or idle:all, and settings such as ,keep=0.5")
    values: dict[str, float] = {}
    for setting in settings:
        name, _, number = setting.partition("=")
        try:
            values[name] = float(number)
        except ValueError:
            raise ConfigError(f"trim {word!r}: {setting!r} is no NAME=NUMBER") from None
    if unknown := set(values) - {"keep", "least", "tolerance"}:
        raise ConfigError(
            f"trim {word!r}: no {min(unknown)!r}; keep and least are seconds, tolerance is a share"
        )
    return Trim(what == "idle:all", **values)


def trimmed(source: Source, trim: Trim | None = None) -> Source:
    """The source without idle time; `info.warnings` says how many frames went.

    Reads the numbers, not the pictures, of all episodes twice. An episode in which nothing ever
    moves keeps all its frames. Raises DataError where the rate is not known.
    """
    return _Trimmed(source, trim or Trim())


class _Trimmed(WrappedSource):
    def __init__(self, source: Source, trim: Trim) -> None:
        info = source.info
        if info.fps is None:
            raise DataError(
                f"{info.path}: its frames per second are not recorded, so that seconds of standing "
                "still cannot be counted; give --fps"
            )
        self._trim = trim
        keys = moving_keys(info)
        if not keys:
            raise DataError(f"{info.path}: no action and no state, so nothing says what moves")
        reach, counters = _reach(source, keys, trim.tolerance)
        self._picked = _picked(source, keys, reach, trim, info.fps)
        numbers = self._picked.values()
        was, left = sum(n for _, n in numbers), sum(len(kept) for kept, _ in numbers)
        self._original = {ref.id: ref for ref in source.episodes()}
        warnings = (*info.warnings, *_said(self._picked, was, left, trim), *counters)
        frames = without_video(info.frames) if trim.everywhere else info.frames
        history = (*info.history, f"trimmed {trim}")
        super().__init__(source, replace(info, frames=frames, warnings=warnings, history=history))

    def episodes(self) -> Sequence[EpisodeRef]:
        return [self._ref(ref, len(self._picked[ref.id][0])) for ref in self._original.values()]

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        episode = self._source.open(self._original[ref.id])
        kept = self._picked[ref.id][0]
        made = PickedEpisode if self._trim.everywhere else _Shorter
        return made(episode, self._ref(ref, len(kept)), kept)

    def _ref(self, ref: EpisodeRef, n_frames: int) -> EpisodeRef:
        return replace(ref, n_frames=n_frames, numbers=without_seed(ref.numbers))


class _Shorter(PickedEpisode):
    """Frames in a row: video stays video."""

    def clip(self, key: str) -> Clip | None:  # type: ignore[override]
        clip = self._episode.clip(key)
        if clip is None:
            return None
        first = clip.start_frame + int(self._numbers[0])
        return replace(clip, start_frame=first, n_frames=len(self._numbers))


def _picked(
    source: Source, keys: Sequence[str], reach: np.ndarray, trim: Trim, fps: float
) -> dict[int, tuple[np.ndarray, int]]:
    """Of each episode: numbers of the frames that stay, and how many there were."""
    picked = {}
    for ref in source.episodes():  # read once more, rather than all held in memory
        numbers = _numbers(source, ref, keys)
        picked[ref.id] = (_kept(numbers, reach, trim, fps), len(numbers))
    return picked


def _reach(
    source: Source, keys: Sequence[str], tolerance: float
) -> tuple[np.ndarray, Iterator[str]]:
    """By how much each column of the keys may move and stand still, from its range; and what is
    said of those that merely count, which may move by anything."""
    low, high = np.array(np.inf), np.array(-np.inf)
    steps = []
    for ref in source.episodes():
        numbers = _numbers(source, ref, keys)
        low, high = np.minimum(low, numbers.min(0)), np.maximum(high, numbers.max(0))
        if len(numbers) > 2:
            steps.append(counted_steps(numbers))
    reach = tolerances(low, high, tolerance)
    places = [(key, n) for key in keys for n in range(_width(source.info.frames[key]))]
    count = _count(steps, places)
    reach[count] = np.inf
    return reach, (
        f"{key!r}, column {n}, goes on by the same in every frame, as counters and clocks do: it "
        "was not looked at"
        for (key, n), counts in zip(places, count, strict=True)
        if counts
    )


def _width(schema: FrameSchema) -> int:
    return int(np.prod(schema.shape or (), dtype=np.int64))


def _count(steps: Sequence[np.ndarray], places: Sequence[tuple[str, int]]) -> np.ndarray:
    """Which columns go on by the same in every frame of every episode, bool [columns]; none of the
    action, which says what moves."""
    if not steps:
        return np.zeros(len(places), bool)
    low, high = np.min(steps, 0), np.max(steps, 0)  # NaN where they are so in an episode
    same = high - low <= EVEN * np.maximum(np.abs(low), np.abs(high))
    return np.asarray(same & [not key.startswith("action") for key, _ in places])


def _numbers(source: Source, ref: EpisodeRef, keys: Sequence[str]) -> np.ndarray:
    """The columns of the keys of an episode, one after another: float64 [n, columns]."""
    episode = source.open(ref)
    parts = [episode.read(key, 0, episode.n_frames) for key in keys]
    return np.concatenate([part.reshape(len(part), -1).astype(np.float64) for part in parts], 1)


def moving_keys(info: SourceInfo) -> list[str]:
    """Keys whose numbers say whether something moves: action and states, no pictures, and none
    that are no measure of it; see `is_measured`."""

    def moves(key: str, schema: FrameSchema) -> bool:
        pictures = schema.kind in ("image", "depth") or len(schema.shape or ()) > 2
        return not pictures and is_measured(key)

    return [key for key, schema in info.frames.items() if moves(key, schema)]


def _kept(numbers: np.ndarray, reach: np.ndarray, trim: Trim, fps: float) -> np.ndarray:
    """Numbers of the frames that stay, int [n]."""
    keep, frames = max(round(trim.keep * fps), 1), np.arange(len(numbers))
    start, end = idle_start(numbers, reach), idle_end(numbers, reach)
    if start == len(numbers):
        return frames
    first, stop = max(start - keep, 0), len(numbers) - max(end - keep, 0)
    stays = (frames >= first) & (frames < stop)
    if trim.everywhere:
        for begin, over in idle_stretches(numbers, reach, max(round(trim.least * fps), keep + 1)):
            if begin >= start and over <= len(numbers) - end:
                stays[begin + keep : over] = False
    return frames[stays]


def _said(
    picked: Mapping[int, tuple[np.ndarray, int]], was: int, left: int, trim: Trim
) -> list[str]:
    where = "idle" if trim.everywhere else "idle at the ends of episodes"
    shorter = sum(len(kept) < n for kept, n in picked.values())
    return [
        f"trimmed {was - left} of {was} frames, {where}, from {shorter} of {len(picked)} episodes"
    ]
