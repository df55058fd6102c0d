"""A summary of each column of an array, in one pass and bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SAMPLE_NUMBERS = 4 * 2**20  # numbers kept for the quantiles
STILL = 1e-6  # of a column's range between its quartiles: it mostly stands still
OUTLYING = 10.0  # interquartile ranges beyond the quartiles; 13 standard deviations of a normal


@dataclass(frozen=True)
class Outlier:
    """An extreme value of a column, the frame it is in, and the quartiles of the column."""

    column: int
    frame: int
    value: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Interquartile ranges from the nearer quartile."""
        return max(self.low - self.value, self.value - self.high) / (self.high - self.low)


class ColumnSummary:
    """Extremes with their frames, and an even sample of frames for the quantiles.

    shape: of the whole array, [frames, ...]; each entry of a frame is a column.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        columns = int(np.prod(shape[1:], dtype=np.int64))
        self.seen = 0
        self._stride = max(-(-shape[0] * columns // SAMPLE_NUMBERS), 1)
        self._sample: list[np.ndarray] = []
        self._extremes = [np.full(columns, np.inf), np.full(columns, -np.inf)]
        self._frames = [np.zeros(columns, np.int64), np.zeros(columns, np.int64)]

    def add(self, start: int, frames: np.ndarray) -> None:
        """Frames [N, ...], the first being number `start`; NaN and infinities are passed over."""
        values = frames.reshape(len(frames), -1).astype(np.float64)
        numbers = start + np.arange(len(values))
        finite = np.isfinite(values).all(1)
        values, numbers = values[finite], numbers[finite]
        if not len(values):
            return
        self.seen += len(values)
        self._sample.append(values[numbers % self._stride == 0])
        lowest, highest = np.argmin(values, 0), np.argmax(values, 0)
        self._keep(0, values, numbers, lowest, np.less)
        self._keep(1, values, numbers, highest, np.greater)

    def _keep(
        self, side: int, values: np.ndarray, numbers: np.ndarray, rows: np.ndarray, beyond: np.ufunc
    ) -> None:
        """Keep each column's number in `rows` where it is beyond the extreme so far."""
        found = values[rows, np.arange(values.shape[1])]
        further = beyond(found, self._extremes[side])
        self._extremes[side][further] = found[further]
        self._frames[side][further] = numbers[rows][further]

    @property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest of each column, float64 [columns]."""
        return self._extremes[0], self._extremes[1]

    def constant(self) -> tuple[list[int], np.ndarray]:
        """Columns that never move, and the smallest value of each column."""
        low, high = self._extremes
        return np.flatnonzero(low == high).tolist(), low

    def outliers(self) -> Iterator[Outlier]:
        """Extremes far outside the quartiles; columns that mostly stand still are not judged."""
        sample = np.concatenate(self._sample)
        if not len(sample):
            return
        low, high = np.quantile(sample, [0.25, 0.75], axis=0)
        span = self._extremes[1] - self._extremes[0]
        for column in np.flatnonzero(high - low > STILL * span).tolist():
            reach = OUTLYING * (high[column] - low[column])
            for side in (0, 1):
                value = float(self._extremes[side][column])
                if not low[column] - reach <= value <= high[column] + reach:
                    frame = int(self._frames[side][column])
                    yield Outlier(column, frame, value, float(low[column]), float(high[column]))
