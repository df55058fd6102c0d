"""An order of windows in which only a few blocks of the data are needed at a time.

A block is the windows of one shard of the dataset. Each epoch shows every window once: blocks in
random order, `open_blocks` of them at a time, and of these all windows in random order.

    blocks        0 1 2 3 4 5 6 7              open_blocks = 4, two lanes
    of an epoch   5 2 7 0 | 3 6 1 4            a permutation, cut into groups
    first group   5 2 7 0                      rows 0 2 4 ... of 5 and 2, rows 1 3 5 ... of 7 and 0

A lane has rows of its own, position % LANES, and a stretch of the group's windows. Lanes lie along
the windows in the order of their reversed bits, so that those of every second row are one half, of
every fourth row one quarter: of 2, 4, ... 64 ranks each reads blocks of its own. How random this
is: docs/object_storage.md.
"""

from functools import lru_cache

import numpy as np

from dipole.data.core.errors import ConfigError

LANES = 64
_REVERSED = np.array([int(f"{lane:06b}"[::-1], 2) for lane in range(LANES)])


class BlockOrder:
    """The windows of one part, in blocks.

    ends: Of each block, in windows, exclusive; int64 [blocks], rising.
    open_blocks: So many blocks are drawn from at a time.
    seed, part: The order is a function of them, and of the epoch.
    Raises ConfigError where open_blocks is no positive number.
    """

    def __init__(self, ends: np.ndarray, open_blocks: int, seed: int, part: int = 0) -> None:
        if type(open_blocks) is not int or open_blocks < 1:
            raise ConfigError(f"shuffle_blocks is {open_blocks!r}: a positive number of blocks")
        self.n_windows = int(ends[-1])
        self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._sizes = np.diff(ends, prepend=0).astype(np.int64)
        self._open_blocks, self._seed, self._part = open_blocks, seed, part
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        self._group = lru_cache(maxsize=4)(self._draw_group)

    @property
    def n_blocks(self) -> int:
        """How many there are."""
        return len(self._sizes)

    def windows(self, positions: np.ndarray) -> np.ndarray:
        """Windows at these positions of the sequence, int64 [N]."""
        drawn = np.empty(len(positions), np.int64)
        epochs, places = positions // self.n_windows, positions % self.n_windows
        for epoch in np.unique(epochs).tolist():
            here = np.flatnonzero(epochs == epoch)
            ends = self._epoch(epoch)[1]
            groups = np.searchsorted(ends, places[here], side="right")
            for group in np.unique(groups).tolist():
                inside = here[groups == group]
                first = int(ends[group - 1]) if group else 0
                drawn[inside] = self._group(epoch, group)[places[inside] - first]
        return drawn

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The blocks in their order, and where each group of them ends, in windows."""
        order = np.random.default_rng([self._seed, epoch, self._part, 2]).permutation(self.n_blocks)
        ends = np.cumsum(self._sizes[order])
        last = np.arange(self._open_blocks, self.n_blocks + self._open_blocks, self._open_blocks)
        return order, ends[np.minimum(last, self.n_blocks) - 1]

    def _draw_group(self, epoch: int, group: int) -> np.ndarray:
        """The windows of a group, in the order of their positions."""
        order, ends = self._epoch(epoch)
        first = int(ends[group - 1]) if group else 0
        blocks = order[group * self._open_blocks : (group + 1) * self._open_blocks]
        windows = np.concatenate(
            [np.arange(start, start + size) for start, size in self._spans(blocks)]
        )
        rows = (epoch * self.n_windows + first + np.arange(len(windows))) % LANES
        lanes = _REVERSED[rows]
        random = np.random.default_rng([self._seed, epoch, self._part, 3, group])
        # Sorted by lane, and within a lane in random order: each lane has a stretch of the windows.
        by_lane = np.lexsort((random.random(len(windows)), lanes))
        drawn = np.empty_like(windows)
        drawn[by_lane] = windows
        return drawn

    def _spans(self, blocks: np.ndarray) -> list[tuple[int, int]]:
        return [*zip(self._starts[blocks].tolist(), self._sizes[blocks].tolist(), strict=True)]


def block_ends(
    starts: np.ndarray, counts: np.ndarray, frames_per_block: int, divisible: bool = True
) -> np.ndarray:
    """Where blocks of windows end, so that each block's frames lie in one shard: int64 [blocks].

    starts: First frame of each episode, int [episodes], in the order of the windows. counts: Its
    windows. frames_per_block: Of a shard. divisible: Whether window i of an episode is at its frame
    i, so that long episodes can be cut.

    >>> block_ends(np.array([0, 6, 9]), np.array([6, 3, 7]), 8).tolist()
    [8, 16]
    """
    ends: list[int] = []
    first, previous = 0, -1
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        if not count:
            continue
        block = start // frames_per_block
        if previous not in (-1, block):
            ends.append(first)
        last = (start + count - 1) // frames_per_block if divisible else block
        ends += [first + cut * frames_per_block - start for cut in range(block + 1, last + 1)]
        first, previous = first + count, last
    return np.array([*ends, first], np.int64)
