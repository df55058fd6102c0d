"""Many slots in few workers: commands and answers together are more than the pipes hold."""

import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tiny_simulator import TinySimulator

from dipole.envs.rollout import Command
from dipole.envs.rollout.workers import BYTES_AHEAD, COMMANDS_AHEAD, WorkerSlots


@pytest.fixture
def no_longer_than_a_minute():
    """A deadlock is an error, not a test that never ends."""
    if not hasattr(signal, "SIGALRM"):
        pytest.skip("no alarms here")

    def stop(*_):
        raise TimeoutError("the workers wait for the main process, and it for them")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def slots():
    pool = WorkerSlots(partial(TinySimulator, size=(96, 96)), n_obs_steps=2, workers=1)
    yield pool
    pool.close()


@pytest.mark.parametrize(("n_slots", "n_actions"), [(800, 4), (40, 20_000)])
def test_all_commands_can_be_sent_before_any_answer_is_collected(
    no_longer_than_a_minute, slots, n_slots, n_actions
):
    for actions in (None, np.zeros((n_actions, 2))):
        for slot in range(n_slots):
            slots.send(Command(slot, 0, seed=4, actions=actions))
        assert slots.busy == n_slots
        turns = [turn for _ in range(n_slots) if slots.busy for turn in slots.collect()]
        assert sorted(turn.slot for turn in turns) == list(range(n_slots))
        assert slots.busy == 0


def test_a_worker_has_the_next_commands_before_it_has_answered(slots):
    for slot in range(3 * COMMANDS_AHEAD):
        slots.send(Command(slot, 0, seed=4))
    (worker,) = slots._workers
    assert 1 < len(worker.sent) <= COMMANDS_AHEAD
    assert sum(size for _, size in worker.sent.values()) <= BYTES_AHEAD
    assert slots.busy == 3 * COMMANDS_AHEAD


def test_no_more_is_sent_ahead_than_fits_into_a_pipe(no_longer_than_a_minute, slots):
    long = np.zeros((BYTES_AHEAD // 16 + 1, 2))  # one message of it is more than that
    for actions in (None, long):
        for slot in range(3):
            slots.send(Command(slot, 0, seed=4, actions=actions))
        (worker,) = slots._workers
        assert len(worker.sent) == (3 if actions is None else 1)
        turns = [turn for _ in range(3) if slots.busy for turn in slots.collect()]
        assert sorted(turn.slot for turn in turns) == [0, 1, 2]


def test_closed_workers_have_ended():
    pool = WorkerSlots(TinySimulator, n_obs_steps=2, workers=2)
    processes = [worker._process for worker in pool._workers]
    for slot in range(2):  # they are there: one that is still starting may be ended by force
        pool.send(Command(slot, 0, seed=4))
    while pool.busy:
        pool.collect()
    pool.close()
    assert [process.exitcode for process in processes] == [0, 0]
