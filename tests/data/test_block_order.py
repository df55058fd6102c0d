"""Windows in blocks: each once an epoch, few blocks at a time, and each rank its own."""

import numpy as np
import pytest

from dipole.data import ConfigError, EpisodeStore, Windows, WindowSpec
from dipole.data.loading.batch_plan import BatchPlan
from dipole.data.loading.block_order import BlockOrder, block_ends

ENDS = np.array([7, 20, 31, 40, 52, 60])


def block_of(windows):
    return np.searchsorted(ENDS, windows, side="right")


def test_every_epoch_shows_every_window_once():
    order = BlockOrder(ENDS, 2, seed=0)
    epochs = order.windows(np.arange(180)).reshape(3, 60)
    assert (np.sort(epochs) == np.arange(60)).all()
    assert (epochs[0] != epochs[1]).any()


def test_only_the_open_blocks_are_drawn_from():
    drawn = BlockOrder(ENDS, 2, seed=0).windows(np.arange(60))
    blocks = block_of(drawn)
    order, ends = BlockOrder(ENDS, 2, seed=0)._draw_epoch(0)
    for first, last, pair in zip([0, *ends[:-1]], ends, order.reshape(-1, 2), strict=True):
        assert set(blocks[first:last].tolist()) == set(pair.tolist())


def test_a_window_does_not_depend_on_what_is_asked_beside_it():
    order, other = BlockOrder(ENDS, 4, seed=3), BlockOrder(ENDS, 4, seed=3)
    whole = order.windows(np.arange(120))
    assert other.windows(np.array([101, 5, 59, 60])).tolist() == whole[[101, 5, 59, 60]].tolist()


def test_with_all_blocks_open_any_window_may_come_first():
    firsts = {int(BlockOrder(ENDS, 6, seed=s).windows(np.array([0]))[0]) for s in range(64)}
    assert len({int(block_of(np.array([first]))[0]) for first in firsts}) == 6


def test_two_ranks_together_draw_one_process_batch_from_blocks_of_their_own():
    ends = np.arange(100, 1700, 100)
    plans = [
        BatchPlan([1600], 64, 0, blocks=[ends], open_blocks=16, rank=r, ranks=2) for r in (0, 1)
    ]
    whole = BatchPlan([1600], 64, 0, blocks=[ends], open_blocks=16)
    read = [set(), set()]
    for n in range(25):
        rows = [plan.indices(n) for plan in plans]
        assert np.stack(rows, 1).ravel().tolist() == whole.indices(n).tolist()
        for mine, windows in zip(read, rows, strict=True):
            mine |= set((windows // 100).tolist())
    assert read[0].isdisjoint(read[1])
    assert len(read[0]) == len(read[1]) == 8


def test_blocks_end_where_shards_do():
    assert block_ends(np.array([0, 6, 9]), np.array([6, 3, 7]), 8).tolist() == [8, 16]
    assert block_ends(np.array([0, 6, 20]), np.array([6, 0, 4]), 8).tolist() == [6, 10]
    assert block_ends(np.array([0, 6]), np.array([2, 2]), 4, divisible=False).tolist() == [2, 4]


def test_windows_know_the_blocks_of_their_largest_feature(write):
    windows = Windows(EpisodeStore.open(write([9, 14, 11])), WindowSpec(2, 8, 4))
    ends = windows.block_ends()
    assert ends[-1] == len(windows)
    assert len(ends) == 1  # one shard holds it all


@pytest.mark.parametrize("open_blocks", [0, -1, True, 1.5])
def test_open_blocks_are_a_positive_number(open_blocks):
    with pytest.raises(ConfigError, match="shuffle_blocks is"):
        BlockOrder(ENDS, open_blocks, seed=0)
