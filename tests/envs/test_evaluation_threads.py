"""Evaluation on a processor uses its cores: groups of rows are inferred for beside each other."""

import itertools
import multiprocessing
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dipole.data import WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.envs.evaluate import evaluate
from dipole.envs.rollout import LocalSlots

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import TenSteps, TinySimulator

LONG = 30.0  # seconds after which a thread gives up waiting for another


class MeetingPolicy(torch.nn.Module):
    """Each call waits inside until `together` threads are inside."""

    features = SimpleNamespace(observation={"position": None})
    window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
    device = torch.device("cpu")

    def __init__(self, together: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(together)
        self.seen: set[tuple[int, int]] = set()  # thread, and how many cores its operations use

    def predict(self, observation, generator=None):
        self.seen.add((threading.get_ident(), torch.get_num_threads()))
        self.barrier.wait(LONG)
        return torch.zeros(len(generator), self.window.horizon, 2)


def test_two_threads_are_inside_predict_at_once():
    policy = MeetingPolicy(together=2)
    # Ten steps each: all 32 episodes ask for chunks at the same times.
    found = evaluate(policy, TenSteps, episodes=32, threads=2)
    assert len(found.episodes) == 32
    assert len(policy.seen) == 2
    assert {cores for _, cores in policy.seen} == {1}
    assert found.metrics["policy_ms"]["calls"] == 2 * 3


class OneWaitsPolicy(MeetingPolicy):
    """The second call returns when the third has begun."""

    def __init__(self) -> None:
        super().__init__(together=1)
        self.calls = itertools.count()
        self.third = threading.Event()

    def predict(self, observation, generator=None):
        number = next(self.calls)
        if number == 1:
            assert self.third.wait(LONG)
        elif number == 2:
            self.third.set()
        return torch.zeros(len(generator), self.window.horizon, 2)


def test_rows_with_a_chunk_go_on_while_others_still_wait_for_theirs():
    found = evaluate(OneWaitsPolicy(), TenSteps, episodes=32, threads=2)
    assert [episode.steps for episode in found.episodes] == [10] * 32


def test_settings_that_cannot_work_start_no_worker(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", start)
    with pytest.raises(ConfigError, match="inference_batch_size is 3"):
        evaluate(MeetingPolicy(1), TinySimulator, episodes=4, workers=2, inference_batch_size=3)


class ModulePolicy(FakePolicy, torch.nn.Module):
    """The chaotic one, in threads. Of three calls the first waits for another to overtake it."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        FakePolicy.__init__(self)
        self.turn, self.returned = itertools.count(), threading.Semaphore(0)

    def predict(self, observation, generator=None):
        number = next(self.turn)
        chunks = super().predict(observation, generator)
        if number % 3 == 0:
            self.returned.acquire(timeout=0.05)  # there may be no other
        else:
            self.returned.release()
        return chunks


@pytest.mark.parametrize(
    ("threads", "n_envs", "workers"), [(2, None, 0), (3, 50, 0), (2, 33, 0), (2, None, 2)]
)
def test_results_do_not_depend_on_threads(threads, n_envs, workers):
    reference = evaluate(FakePolicy(), TinySimulator, episodes=50, seed=3, n_envs=16)
    found = evaluate(
        ModulePolicy(),
        TinySimulator,
        episodes=50,
        seed=3,
        threads=threads,
        n_envs=n_envs,
        workers=workers,
    )
    assert found.episodes == reference.episodes
    assert found.metrics["jerk"] == reference.metrics["jerk"]
    assert found.metrics["seam_jump"] == reference.metrics["seam_jump"]


def test_rows_left_over_wait_for_a_whole_batch_while_another_is_inferred_for():
    # 17 rows of three chunks each are 51: three whole batches, and a last one of three rows.
    found = evaluate(MeetingPolicy(together=1), TenSteps, episodes=17, n_envs=17, threads=2)
    assert found.metrics["policy_ms"]["calls"] == 4


class OneAtATime(LocalSlots):
    """Answers one command at a time; the others are still simulated."""

    collected = threading.Event()

    def collect(self):
        if self._pool._simulators:
            self.collected.set()  # the second time
        return [self._pool.perform(self._commands.popleft())]


class WaitsForASimulator(MeetingPolicy):
    """Its first call returns once another answer of a simulator was taken."""

    def predict(self, observation, generator=None):
        assert OneAtATime.collected.wait(LONG)
        return super().predict(observation, generator)


def test_answers_of_simulators_are_taken_while_a_chunk_is_computed(monkeypatch):
    monkeypatch.setattr("dipole.envs.evaluation.resources.LocalSlots", OneAtATime)
    OneAtATime.collected.clear()
    policy = WaitsForASimulator(together=1)
    found = evaluate(policy, TenSteps, episodes=2, threads=2, inference_batch_size=1)
    assert len(found.episodes) == 2
