"""Processes that find each other through a store, which may hold what earlier ones left."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore, PrefixStore

from dipole.policy.training.process import rendezvous
from dipole.policy.training.process.group import LostRankError
from dipole.policy.training.process.rank import Rank
from dipole.policy.training.process.rendezvous import agreed_name


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(rendezvous, "PAUSE", 0.001)


def met(store, delays, seconds=20.0):
    """The name that each rank has agreed on, or its error; each begins after its delay."""
    found = [None] * len(delays)

    def one(index):
        time.sleep(delays[index])
        try:
            found[index] = agreed_name(store, Rank(index, len(delays)), seconds)
        except LostRankError as error:
            found[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(delays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=3), min_size=2, max_size=4))
def test_every_start_agrees_on_a_name_of_its_own_whoever_comes_first(starts):
    store = PrefixStore("dipole", HashStore())
    names = []
    for delays in starts:
        found = met(store, [each / 1000 for each in delays])
        assert len(set(found)) == 1, found
        names.append(found[0])
    assert len(set(names)) == len(names)


def test_a_start_of_fewer_or_more_processes_takes_nothing_of_the_one_before():
    store = HashStore()
    names = [met(store, [0.0] * count)[0] for count in (3, 2, 4)]
    assert len(set(names)) == 3


def test_what_an_earlier_process_left_is_not_taken_for_one_that_never_comes():
    store = HashStore()
    met(store, [0.0, 0.0])
    first, second = met(store, [0.0, 0.5], seconds=0.05)
    assert "of the 2 processes rank 1 did not come within 0.05 s" in str(first)
    assert isinstance(second, LostRankError)
