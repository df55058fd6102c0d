"""Which windows make batch n."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import ConfigError
from dipole.data.loading.batch_plan import PERIOD, BatchPlan, PartOrder, PartSchedule, part_quotas


def endless(n_windows, seed, length):
    """The sequence of permutations as the contract states it."""
    epochs = -(-length // n_windows)
    drawn = [np.random.default_rng([seed, e]).permutation(n_windows) for e in range(epochs)]
    return np.concatenate(drawn)[:length]


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 99), st.integers(0, 12))
def test_batch_n_is_a_slice_of_the_permutations_end_to_end(n_windows, batch_size, seed, n):
    sequence = endless(n_windows, seed, (n + 1) * batch_size)
    batch = BatchPlan([n_windows], batch_size, seed).indices(n)
    assert batch.tolist() == sequence[n * batch_size :].tolist()


def test_these_are_the_first_batches_of_seed_0():
    plan = BatchPlan([5], batch_size=3, seed=0)
    assert [plan.indices(n).tolist() for n in range(3)] == [[2, 4, 3], [0, 1, 1], [4, 3, 0]]


def test_every_window_is_seen_once_in_an_epoch():
    plan = BatchPlan([12], batch_size=4, seed=7)
    seen = np.concatenate([plan.indices(n) for n in range(3, 6)])
    assert sorted(seen) == list(range(12))


def test_a_late_batch_draws_only_the_permutations_it_touches(monkeypatch):
    drawn = []
    draw = PartOrder._draw
    monkeypatch.setattr(PartOrder, "_draw", lambda s, e: drawn.append(e) or draw(s, e))
    BatchPlan([10], batch_size=4, seed=0).indices(1_000_002)  # 4,000,008 to 4,000,011
    assert drawn == [400_000, 400_001]


def test_three_to_one_follow_each_other_in_this_order():
    schedule = PartSchedule([3, 1])
    assert schedule.parts(np.arange(8)).tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert schedule.count(1, np.arange(9)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_two_three_and_four_follow_each_other_in_this_order():
    """A run that is resumed by another version needs the same one."""
    assert PartSchedule([2, 3, 4]).parts(np.arange(9)).tolist() == [1, 2, 0, 2, 1, 2, 0, 1, 2]


def test_parts_of_one_size_are_permuted_differently():
    windows = BatchPlan([50, 50], batch_size=100, seed=0).indices(0)
    assert windows[windows < 50].tolist() != (windows[windows >= 50] - 50).tolist()
    first, second = (PartOrder(50, 0, part).windows(np.arange(50)) for part in (0, 1))
    assert first.tolist() != second.tolist()


mixtures = st.lists(st.integers(1, 60), min_size=1, max_size=8)


@given(mixtures)
def test_at_every_row_a_part_has_its_share_to_less_than_a_row(weights):
    parts = PartSchedule(weights).parts(np.arange(2 * sum(weights)))
    for part, weight in enumerate(weights):
        before = 0
        for row, other in enumerate(parts):
            share = Fraction(row * weight, sum(weights))
            assert before in (math.floor(share), math.ceil(share))
            before += int(other == part)


@given(mixtures, st.integers(1, 40), st.integers(0, 10**9), st.integers(0, 5))
def test_a_batch_needs_none_before_it_and_its_share_is_exact(weights, batch_size, n, seed):
    plan = BatchPlan([7] * len(weights), batch_size, seed, weights=weights)
    counted = np.bincount(plan.indices(n) // 7, minlength=len(weights))
    bounds = np.array([n * batch_size, (n + 1) * batch_size])
    exact = [np.diff(plan.schedule.count(part, bounds))[0] for part in range(len(weights))]
    assert counted.tolist() == exact
    for part, weight in enumerate(weights):
        share = Fraction(int(bounds[1]) * weight, sum(weights))
        assert abs(plan.schedule.count(part, bounds[1:])[0] - share) < 1


@given(mixtures, st.integers(1, 40), st.integers(0, 10**6), st.integers(1, 8))
def test_ranks_together_take_the_batch_of_one(weights, batch_size, n, ranks):
    ranks = min(ranks, batch_size)
    sizes = [5 + part for part in range(len(weights))]
    whole = BatchPlan(sizes, batch_size, 1, weights=weights).indices(n)
    taken = np.full(batch_size, -1)
    for rank in range(ranks):
        plan = BatchPlan(sizes, batch_size, 1, weights=weights, rank=rank, ranks=ranks)
        taken[rank::ranks] = plan.indices(n)
    assert taken.tolist() == whole.tolist()


@given(mixtures, st.integers(0, 3))
def test_each_part_shows_all_its_windows_before_one_twice(weights, seed):
    sizes = [3 + part for part in range(len(weights))]
    plan = BatchPlan(sizes, 16, seed, weights=weights)
    seen = np.concatenate([plan.indices(n) for n in range(30)])
    first = 0
    for size in sizes:
        counts = np.bincount(seen, minlength=sum(sizes))[first : first + size]
        assert counts.max() - counts.min() <= 1
        first += size


def test_the_share_over_1000_batches_of_256_is_exact():
    plan = BatchPlan([24_208, 900, 13], 256, seed=42, weights=[0.7, 0.2, 0.1])
    first = np.cumsum([0, *plan.sizes])[1:]
    parts = [np.searchsorted(first, plan.indices(n), side="right") for n in range(1000)]
    assert np.bincount(np.concatenate(parts)).tolist() == [179_200, 51_200, 25_600]


def test_both_ranks_see_both_parts():
    plans = [BatchPlan([100, 100], 32, 0, weights=[1, 1], rank=r, ranks=2) for r in (0, 1)]
    shares = [np.mean(plan.indices(0) < 100) for plan in plans]
    assert all(0.2 < share < 0.8 for share in shares)


def test_weights_are_decimals_as_they_are_written():
    assert part_quotas([0.1, 0.2, 0.7]) == [1, 2, 7]
    assert part_quotas([2, 1]) == [2, 1]
    assert part_quotas([24_208, 24_208]) == [1, 1]


def test_weights_without_a_small_common_denominator_are_65536ths():
    quotas = part_quotas([1_000_003, 500_009, 1])
    assert sum(quotas) == PERIOD
    assert quotas == [43_690, 21_845, 1]


def test_without_weights_every_window_is_as_likely():
    assert BatchPlan([30, 10], 4, 0).schedule.quotas == [3, 1]


def test_a_plan_sent_to_a_worker_is_the_same_plan():
    plan = BatchPlan([9, 4], 6, 3, weights=[0.5, 0.5], rank=1, ranks=2)
    sent = pickle.loads(pickle.dumps(plan))
    assert sent.indices(11).tolist() == plan.indices(11).tolist()


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1"])
def test_a_weight_that_is_none_is_refused_with_its_value(weight):
    with pytest.raises(ConfigError, match=r"weight .*: a part's weight is a positive number"):
        BatchPlan([5, 5], 4, 0, weights=[1, weight])


@pytest.mark.parametrize(("rank", "ranks"), [(2, 2), (-1, 2), (0, 5)])
def test_ranks_that_cannot_be_are_refused(rank, ranks):
    with pytest.raises(ConfigError, match=f"rank {rank} of {ranks}"):
        BatchPlan([5], 4, 0, rank=rank, ranks=ranks)
