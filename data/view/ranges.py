"""Where the numbers of each dimension lie, over the whole dataset, in bounded memory."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.statistics import READ_BYTES, RunningStatistics
from dipole.data.store.lazy_array import LazyArray
from dipole.data.view.numbers import MOST_COLUMNS, flat_columns

BINS = 24
SAMPLE_FRAMES = 20_000  # that the histograms are made of, evenly chosen


@dataclass
class Ranges:
    """Of each column: extremes, mean, deviation, how many are NaN or infinite, a histogram."""

    columns: int
    frames: int = 0
    unreadable: int = 0
    _running: list[RunningStatistics] = field(default_factory=list)
    _sample: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray, keep_every: int) -> None:
        """values: float64 [N, columns], NaN where a number is none."""
        self.frames += len(values)
        self._sample.append(values[::keep_every])
        self._running = self._running or [RunningStatistics() for _ in range(self.columns)]
        for running, column in zip(self._running, values.T, strict=True):
            finite = column[~np.isnan(column)]
            if len(finite):
                running.add(finite)

    def to_list(self) -> list[dict[str, Any] | None]:
        """One entry a column; None where it holds no finite number at all."""
        if not self._running:
            return [None] * self.columns
        sample = np.concatenate(self._sample)
        return [self._column(running, sample[:, i]) for i, running in enumerate(self._running)]

    def _column(self, running: RunningStatistics, sample: np.ndarray) -> dict[str, Any] | None:
        if not running.count:
            return None
        found = running.result()
        low, high = float(found.min), float(found.max)
        return {
            "min": low,
            "max": high,
            "mean": float(found.mean),
            "std": float(found.std),
            "not_finite": self.frames - running.count,
            "histogram": _histogram(sample[~np.isnan(sample)], low, high),
        }


def ranges(array: LazyArray) -> Ranges:
    """Of an array's first columns; pieces that cannot be read are counted and passed over."""
    columns = min(int(np.prod(array.shape[1:], dtype=np.int64)), MOST_COLUMNS)
    found = Ranges(columns)
    every = max(len(array) // SAMPLE_FRAMES, 1)
    size = max(READ_BYTES // max(array.frame_bytes, 1) // array.chunk_length, 1)
    for start in range(0, len(array), size * array.chunk_length):
        stop = min(start + size * array.chunk_length, len(array))
        try:
            found.add(flat_columns(array.read(start, stop)), every)
        except DataError:
            found.unreadable += stop - start
    return found


def _histogram(values: np.ndarray, low: float, high: float) -> list[int]:
    if low == high or not len(values) or not np.isfinite(high - low):
        return []
    counts, _ = np.histogram(values, bins=BINS, range=(low, high))
    return [int(count) for count in counts]
