"""What a normaliser needs to know of a feature, computed in one pass and bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dipole.data.core.errors import ConfigError, DataError

READ_BYTES = 16 * 2**20  # stored bytes that are read at once
SAMPLE_BYTES = 32 * 2**20  # of the frames whose quantiles are taken
SMALLEST_RANGE = 1e-4  # an entry that moves less than this is constant


@dataclass(frozen=True)
class Statistics:
    """Of a feature's numbers over frames; each float64 [*shape].

    min, max, mean.
    std: Unbiased standard deviation; 0 for a single frame.
    count: Frames.
    q01, q99: Quantiles of 1 and 99 %, None where they were not computed. Exact up to 32 MiB of
        frames; of longer data from every second, fourth, ... frame.
    """

    min: np.ndarray
    max: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    count: int
    q01: np.ndarray | None = None
    q99: np.ndarray | None = None

    @property
    def constant(self) -> np.ndarray:
        """Which numbers hardly move, bool [*shape]: normalisation shifts these and no more."""
        return np.asarray(np.asarray(self.max, float) - self.min < SMALLEST_RANGE)

    def quantile_range(self) -> tuple[np.ndarray, np.ndarray]:
        """The quantiles of 1 and 99 %; of a number that moves, but so rarely that both are the
        same, its limits. Raises ConfigError where they were not computed."""
        if self.q01 is None or self.q99 is None:
            raise ConfigError(
                "normalize: quantiles needs statistics with quantiles: compute them anew"
            )
        rare = self.q99 - self.q01 < SMALLEST_RANGE
        low, high = np.where(rare, self.min, self.q01), np.where(rare, self.max, self.q99)
        return np.asarray(low, float), np.asarray(high, float)

    @classmethod
    def within(cls, low: float, high: float, shape: Sequence[int], count: int) -> "Statistics":
        """As if all numbers were spread evenly from low to high, for a range that is given."""
        least, most = np.full(tuple(shape), low), np.full(tuple(shape), high)
        return cls(least, most, (least + most) / 2, (most - least) / 12**0.5, count, least, most)

    def entries(self, columns: Sequence[int]) -> "Statistics":
        """Of these entries of the last axis alone."""
        chosen = list(columns)
        return self._each(lambda array: array[..., chosen])

    def _each(self, function: Callable[[np.ndarray], np.ndarray]) -> "Statistics":
        low = None if self.q01 is None else function(self.q01)
        high = None if self.q99 is None else function(self.q99)
        low_end, high_end = function(self.min), function(self.max)
        mean, std = function(self.mean), function(self.std)
        return Statistics(low_end, high_end, mean, std, self.count, low, high)

    @classmethod
    def of(cls, frames: np.ndarray) -> "Statistics":
        """Of an array in memory, [N, *shape]; raises DataError where it is empty or not finite."""
        if not len(frames):
            raise DataError(f"statistics of an array of shape {list(frames.shape)}: it is empty")
        if not np.isfinite(frames).all():
            raise DataError("statistics of an array with NaN or infinite numbers: mend it first")
        running, sample = RunningStatistics(), FrameSample()
        running.add(frames)
        sample.add(frames)
        return sample.with_quantiles(running.result())


class Reader(Protocol):
    """What is read: see `dipole.data.loading.feature_reader.FeatureReader`."""

    @property
    def where(self) -> str: ...
    @property
    def source_bytes(self) -> int: ...
    @property
    def chunk_length(self) -> int: ...
    def read(self, start: int, stop: int) -> np.ndarray: ...


class RunningStatistics:
    """Statistics of frames that come in pieces (Chan, Golub and LeVeque, 1979, eq. 2.1)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = np.zeros(())
        self._min, self._max = np.array(np.inf), np.array(-np.inf)

    def add(self, frames: np.ndarray) -> None:
        """frames: [N, *shape], N above 0."""
        values = frames.astype(np.float64)
        n, mean = len(values), values.mean(0)
        total, delta = self.count + n, mean - self._mean
        self._squares = (
            self._squares + ((values - mean) ** 2).sum(0) + delta**2 * (self.count * n / total)
        )
        self._mean = self._mean + delta * (n / total)
        self._min = np.minimum(self._min, values.min(0))
        self._max = np.maximum(self._max, values.max(0))
        self.count = total

    def result(self) -> Statistics:
        """Of all frames so far, at least one; the deviation of a single frame is 0."""
        std = np.sqrt(self._squares / max(self.count - 1, 1))
        return Statistics(self._min, self._max, self._mean, std, self.count)


class FrameSample:
    """Frames for quantiles in bounded memory: all of them, or every 2nd, 4th, 8th, ...

    capacity_bytes: of float32 numbers that are kept at most.
    """

    def __init__(self, capacity_bytes: int = SAMPLE_BYTES) -> None:
        self._capacity = capacity_bytes
        self._kept: list[np.ndarray] = []
        self._seen = self._n_kept = 0
        self._every = 1

    def add(self, frames: np.ndarray) -> None:
        """frames: [N, *shape]."""
        first = -self._seen % self._every
        kept = np.asarray(frames[first :: self._every], np.float32)
        self._kept.append(kept.copy() if kept.base is not None else kept)
        self._seen += len(frames)
        self._n_kept += len(kept)
        frame_bytes = max(kept[:1].nbytes, 4)
        while self._n_kept > 1 and self._n_kept * frame_bytes > self._capacity:
            # Frame k of those kept is frame k * every of all, so that every second one is even.
            thinned = np.concatenate(self._kept)[::2].copy()
            self._kept, self._n_kept, self._every = [thinned], len(thinned), 2 * self._every

    def with_quantiles(self, statistics: Statistics) -> Statistics:
        """The statistics of the same frames, with their quantiles."""
        frames = np.concatenate(self._kept)
        q01, q99 = np.quantile(frames, [0.01, 0.99], axis=0).astype(np.float64)
        return replace(statistics, q01=q01, q99=q99)


def merged_statistics(parts: Sequence[Statistics], weights: Sequence[float]) -> Statistics:
    """Of several datasets whose frames are drawn by these weights.

    The mean and deviation are those of the weighted frames. The range, and that of the quantiles,
    is the smallest that holds each part's (see `Statistics.quantile_range`).
    """
    share = np.asarray(weights, float) / np.sum(weights)
    mean = sum(w * p.mean for w, p in zip(share, parts, strict=True))
    square = sum(w * (p.std**2 + (p.mean - mean) ** 2) for w, p in zip(share, parts, strict=True))
    known = all(p.q01 is not None and p.q99 is not None for p in parts)
    ranges = [p.quantile_range() for p in parts] if known else []
    return Statistics(
        min=np.min([p.min for p in parts], axis=0),
        max=np.max([p.max for p in parts], axis=0),
        mean=np.asarray(mean),
        std=np.sqrt(square),
        count=sum(p.count for p in parts),
        q01=np.min([low for low, _ in ranges], axis=0) if known else None,
        q99=np.max([high for _, high in ranges], axis=0) if known else None,
    )


def joined_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Of vectors [n] each, as of one vector; the count is that of the first."""
    known = all(part.q01 is not None and part.q99 is not None for part in parts)
    names = ("min", "max", "mean", "std", *(("q01", "q99") if known else ()))
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Statistics(count=parts[0].count, **arrays)


def statistics(reader: Reader, ranges: Iterable[tuple[int, int]]) -> Statistics:
    """Statistics of a feature over the frames [start, stop) of all ranges.

    Raises DataError where there are no frames, or one of them is NaN or infinite.
    """
    running, sample = RunningStatistics(), FrameSample()
    for start, stop in read_plan(reader, ranges):
        frames = reader.read(start, stop)
        if not np.isfinite(frames).all():
            bad = start + int(
                np.flatnonzero(~np.isfinite(frames).reshape(len(frames), -1).all(1))[0]
            )
            raise DataError(
                f"{reader.where}: frame {bad} is NaN or infinite; `dipole data validate` lists "
                "all such frames. Leave out its episode or mend the recording"
            )
        running.add(frames)
        sample.add(frames)
    if not running.count:
        raise DataError(
            f"{reader.where}: no frames are chosen, so there is nothing to normalise by"
        )
    return sample.with_quantiles(running.result())


def read_plan(reader: Reader, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges, joined where they touch and cut where chunks end, each read of bounded size."""
    per_chunk = max(reader.chunk_length, 1)
    size = max(READ_BYTES // max(reader.source_bytes, 1) // per_chunk, 1) * per_chunk
    for start, stop in joined_ranges(ranges):
        at = start
        while at < stop:
            end = min(stop, (at // size + 1) * size)
            yield at, end
            at = end


def joined_ranges(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges in order of their start, those that touch made one."""
    current: tuple[int, int] | None = None
    for start, stop in sorted(ranges):
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], stop))
            continue
        if current is not None:
            yield current
        current = (start, stop)
    if current is not None:
        yield current
