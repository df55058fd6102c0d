"""Which windows make batch n: a function of (seed, n) alone, for one dataset or several.

Number the rows of all batches end to end; batch n holds rows [n * B, (n + 1) * B). Each row belongs
to a part of the mixture, and each part shows its windows in an endless sequence of permutations:

    row                     0   1   2   3   4   5   6   7
    part, weights 3 : 1     0   0   0   1   0   0   0   1     before row R part p has floor or ceil
    row of that part        0   1   2   0   3   4   5   1     of R * w_p rows

So the share of each part is exact to a row at any time, and no batch needs those before it.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial
from heapq import heappop, heappush
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.loading.block_order import BlockOrder

PERIOD = 2**16  # rows after which the parts follow each other in the same order again, at most


class BatchPlan:
    """The windows of every batch, numbered through all parts: those of part 1 follow part 0's.

    sizes: windows of each part; one for a single dataset.
    batch_size: rows of a batch, over all ranks.
    weights: share of each part in the rows, any positive numbers; by default the sizes.
    blocks: of each part where its blocks end, see `BlockOrder`; by default windows are not drawn in
        blocks. open_blocks: so many of each part are drawn from at a time.
    rank, ranks: this process takes rows rank, rank + ranks, ... of each batch.
    Raises ConfigError for numbers that cannot be.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        blocks: Sequence[np.ndarray] | None = None,
        open_blocks: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if not 0 <= rank < ranks <= batch_size:
            raise ConfigError(
                f"rank {rank} of {ranks} with batches of {batch_size}: ranks count from 0, and "
                "each of them has at least one row"
            )
        self.sizes = tuple(sizes)
        self.batch_size, self.seed = batch_size, seed
        self.weights = None if weights is None else tuple(weights)
        self.rank, self.ranks = rank, ranks
        self.blocks, self.open_blocks = blocks, open_blocks
        self.orders: Sequence[PartOrder | BlockOrder]
        if blocks is None or open_blocks is None:
            self.orders = [PartOrder(size, seed, part) for part, size in enumerate(sizes)]
        else:
            self.orders = [
                BlockOrder(ends, open_blocks, seed, part) for part, ends in enumerate(blocks)
            ]
        self.schedule = PartSchedule(self.sizes if weights is None else weights)
        if len(self.schedule.quotas) != len(self.sizes):
            raise ConfigError(f"{len(self.schedule.quotas)} weights for {len(self.sizes)} parts")
        self._first = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]

    @property
    def n_windows(self) -> int:
        """Of all parts together."""
        return sum(self.sizes)

    def indices(self, n: int) -> np.ndarray:
        """Windows of this rank's rows of batch n, int64 [about B / ranks]."""
        rows = np.arange(n * self.batch_size, (n + 1) * self.batch_size)
        if len(self.sizes) > 1:  # so that no rank is given one part alone
            rows = rows[np.random.default_rng([self.seed, n, 0, 1]).permutation(len(rows))]
        return self._windows(rows[self.rank :: self.ranks])

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        parts = self.schedule.parts(rows)
        windows = np.empty(len(rows), np.int64)
        for part, order in enumerate(self.orders):
            here = parts == part
            positions = self.schedule.count(part, rows[here])
            windows[here] = self._first[part] + order.windows(positions)
        return windows

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process draws its own permutations."""
        plan = partial(
            BatchPlan,
            weights=self.weights,
            blocks=self.blocks,
            open_blocks=self.open_blocks,
            rank=self.rank,
            ranks=self.ranks,
        )
        return (plan, (self.sizes, self.batch_size, self.seed))


class PartOrder:
    """The windows of one part: a permutation for each epoch, end to end without end.

    That of epoch e is `np.random.default_rng([seed, e, part]).permutation(n_windows)`, where part 0
    is the same as [seed, e].
    """

    def __init__(self, n_windows: int, seed: int, part: int = 0) -> None:
        self.n_windows, self.seed, self.part = n_windows, seed, part
        # The last two epochs, because a batch may need both.
        self._permutation = lru_cache(maxsize=2)(self._draw)

    def windows(self, positions: np.ndarray) -> np.ndarray:
        """Windows at these positions of the sequence, int64 [N]."""
        epochs, places = positions // self.n_windows, positions % self.n_windows
        drawn = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            drawn[here] = self._permutation(epoch)[places[here]]
        return drawn

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, self.part]).permutation(self.n_windows)


class PartSchedule:
    """Which part each row belongs to; of R rows part p has floor(R * w_p) or ceil(R * w_p).

    weights: positive, of any sum. They are exact where they have a common denominator of up to
    65,536, and rounded to 65,536ths otherwise.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.quotas = part_quotas(weights)
        self.period = sum(self.quotas)
        self._parts = _one_period(self.quotas)
        self._rows = [np.flatnonzero(self._parts == part) for part in range(len(self.quotas))]

    def parts(self, rows: np.ndarray) -> np.ndarray:
        """The part of each row, int16 [N]."""
        part: np.ndarray = self._parts[rows % self.period]
        return part

    def count(self, part: int, rows: np.ndarray) -> np.ndarray:
        """Rows that a part has before each of these rows, int64 [N]."""
        periods, within = rows // self.period, rows % self.period
        before: np.ndarray = periods * self.quotas[part] + np.searchsorted(self._rows[part], within)
        return before


def part_quotas(weights: Sequence[float]) -> list[int]:
    """Rows of each part in one period, whole numbers in the ratio of the weights.

    >>> part_quotas([0.75, 0.25])
    [3, 1]
    """
    for weight in weights:
        if not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(f"weight {weight!r}: a part's weight is a positive number")
    exact = [Fraction(str(weight)) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    period = math.lcm(*(share.denominator for share in shares))
    if period <= PERIOD:
        return [int(share * period) for share in shares]
    quotas = [max(1, math.floor(share * PERIOD)) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda p: quotas[p] - shares[p] * PERIOD)
    for part in by_remainder[: PERIOD - sum(quotas)] if sum(quotas) < PERIOD else ():
        quotas[part] += 1
    return quotas


def _one_period(quotas: Sequence[int]) -> np.ndarray:
    """The part of each row of one period, int16.

    Row k of a part is due in [k / w, (k + 1) / w), and of those that are due the one with the
    earliest deadline comes first, which meets all of them (Baruah et al., 1996, "Proportionate
    progress"; Liu and Layland, 1973).
    """
    period = sum(quotas)
    assigned = np.empty(period, np.int16)
    due: list[tuple[int, int, int]] = []  # (deadline, part, row of the part)
    later = [(0, part, 0) for part in range(len(quotas))]  # (first row at which it is due, ...)
    for row in range(period):
        while later and later[0][0] <= row:
            _, part, k = heappop(later)
            heappush(due, (-(-(k + 1) * period // quotas[part]), part, k))
        _, part, k = heappop(due)
        assigned[row] = part
        if k + 1 < quotas[part]:
            heappush(later, ((k + 1) * period // quotas[part], part, k + 1))
    return assigned
