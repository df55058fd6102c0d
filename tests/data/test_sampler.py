"""Which windows make batch n."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dipole.data.loading.batch_plan import BatchSampler


def endless(n_windows, seed, length):
    """The sequence of permutations as the contract states it."""
    epochs = -(-length // n_windows)
    drawn = [np.random.default_rng([seed, e]).permutation(n_windows) for e in range(epochs)]
    return np.concatenate(drawn)[:length]


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 99), st.integers(0, 12))
def test_batch_n_is_a_slice_of_the_permutations_end_to_end(n_windows, batch_size, seed, n):
    sequence = endless(n_windows, seed, (n + 1) * batch_size)
    batch = BatchSampler(n_windows, batch_size, seed).indices(n)
    assert batch.tolist() == sequence[n * batch_size :].tolist()


def test_these_are_the_first_batches_of_seed_0():
    sampler = BatchSampler(n_windows=5, batch_size=3, seed=0)
    assert [sampler.indices(n).tolist() for n in range(3)] == [[2, 4, 3], [0, 1, 1], [4, 3, 0]]


def test_every_window_is_seen_once_in_an_epoch():
    sampler = BatchSampler(n_windows=12, batch_size=4, seed=7)
    seen = np.concatenate([sampler.indices(n) for n in range(3, 6)])
    assert sorted(seen) == list(range(12))


def test_a_late_batch_draws_only_the_permutations_it_touches(monkeypatch):
    drawn = []
    draw = BatchSampler._draw
    monkeypatch.setattr(BatchSampler, "_draw", lambda s, e: drawn.append(e) or draw(s, e))
    BatchSampler(n_windows=10, batch_size=4, seed=0).indices(1_000_002)  # 4,000,008 to 4,000,011
    assert drawn == [400_000, 400_001]
