"""Which windows make batch n: a function of (seed, n) alone."""

from functools import lru_cache
from typing import Any

import numpy as np


class BatchSampler:
    """Consecutive slices of an endless sequence of per-epoch permutations.

    Epoch e is `np.random.default_rng([seed, e]).permutation(n_windows)`; batch n holds the
    positions [n * B, (n + 1) * B) of all epochs end to end, so it may straddle two. Finding batch n
    draws only the permutations it touches, never those before.
    """

    def __init__(self, n_windows: int, batch_size: int, seed: int) -> None:
        self.n_windows = n_windows
        self.batch_size = batch_size
        self.seed = seed
        # The last two epochs, because a batch may need both.
        self._permutation = lru_cache(maxsize=2)(self._draw)

    def indices(self, n: int) -> np.ndarray:
        """Windows of batch n, int64 [B]."""
        positions = np.arange(n * self.batch_size, (n + 1) * self.batch_size)
        epochs, places = positions // self.n_windows, positions % self.n_windows
        drawn = np.empty(self.batch_size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            drawn[here] = self._permutation(epoch)[places[here]]
        return drawn

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process draws its own permutations."""
        return (BatchSampler, (self.n_windows, self.batch_size, self.seed))

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.n_windows)
