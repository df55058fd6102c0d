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

sys.path.insert(0, str(Path(__file__).parent))
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
