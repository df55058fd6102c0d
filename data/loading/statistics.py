"""What a normaliser needs to know of a feature, computed in one pass and bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dipole.data.core.errors import DataError

PIECE_BYTES = 16 * 2**20  # stored bytes that are read at once


@dataclass(frozen=True)
class Statistics:
    """Minimum, maximum, mean and unbiased standard deviation over frames; each float64 [*shape]."""

    min: np.ndarray
    max: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    count: int

    @classmethod
    def of(cls, frames: np.ndarray) -> "Statistics":
        """Of an array in memory, [N, *shape]; raises DataError where it is empty or not finite."""
        if not len(frames):
            raise DataError(f"statistics of an array of shape {list(frames.shape)}: it is empty")
        if not np.isfinite(frames).all():
            raise DataError("statistics of an array with NaN or infinite numbers: mend it first")
        running = RunningStatistics()
        running.add(frames)
        return running.result()


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


def statistics(reader: Reader, spans: Iterable[tuple[int, int]]) -> Statistics:
    """Statistics of a feature over the frames [start, stop) of all spans.

    Raises DataError where there are no frames, or one of them is NaN or infinite.
    """
    running = RunningStatistics()
    for start, stop in pieces(reader, spans):
        frames = reader.read(start, stop)
        if not np.isfinite(frames).all():
            bad = start + int(
                np.flatnonzero(~np.isfinite(frames).reshape(len(frames), -1).all(1))[0]
            )
            raise DataError(
                f"frame {bad} is NaN or infinite; `dipole data validate` lists all such frames. "
                "Leave out its episode or mend the recording"
            )
        running.add(frames)
    if not running.count:
        raise DataError(
            f"{reader.where}: no episodes are chosen, so there is nothing to normalise by"
        )
    return running.result()


def pieces(reader: Reader, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans, joined where they touch and cut where chunks end, each piece of bounded size."""
    per_chunk = max(reader.chunk_length, 1)
    size = max(PIECE_BYTES // max(reader.source_bytes, 1) // per_chunk, 1) * per_chunk
    for start, stop in joined(spans):
        at = start
        while at < stop:
            end = min(stop, (at // size + 1) * size)
            yield at, end
            at = end


def joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans in order of their start, those that touch made one."""
    current: tuple[int, int] | None = None
    for start, stop in sorted(spans):
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], stop))
            continue
        if current is not None:
            yield current
        current = (start, stop)
    if current is not None:
        yield current
