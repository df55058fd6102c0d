"""What computes an evaluation: when processes are worth it, and what they do not wait for."""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.envs.contract import EnvSpec
from dipole.envs.evaluate import evaluate
from dipole.envs.evaluation import resources
from dipole.envs.evaluation.episodes import EpisodeRun
from dipole.envs.evaluation.resources import Asked, chosen_workers, computing_here, default_slots
from dipole.envs.interface import Interface
from dipole.envs.rollout.first_look import FirstLook, first_look
from dipole.envs.rollout.resolved import ResolvedEnvironment

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import TenSteps


@pytest.mark.parametrize(
    ("step_seconds", "episodes", "workers"),
    [(0.010, 50, 4), (0.0019, 1000, 0), (0.010, 1, 0), (0.010, 2, 0), (0.1, 3, 3), (None, 50, 0)],
)
def test_processes_are_chosen_where_costly_steps_are_many(
    monkeypatch, step_seconds, episodes, workers
):
    monkeypatch.setattr(resources, "processors", lambda: 4)
    look = FirstLook(10.0, step_seconds=step_seconds, most_steps=100)
    assert chosen_workers(look, episodes) == workers


def test_simulators_that_are_slow_to_make_are_few():
    quick, slow = FirstLook(10.0, making_seconds=0.1), FirstLook(10.0, making_seconds=1.0)
    assert [default_slots(each, 16, 1, 2) for each in (quick, slow)] == [32, 8]
    assert [default_slots(each, 16, 2, 0) for each in (quick, slow)] == [32, 32]


@given(st.sampled_from([1, 16, 64]), st.integers(1, 32), st.integers(0, 32), st.booleans())
def test_simulators_that_are_processes_are_a_few_for_each_that_drives_them(
    rows, threads, workers, slow
):
    look = FirstLook(10.0, making_seconds=10.0 * slow)
    own = default_slots(look, rows, threads, workers, own_process=True)
    assert 1 <= own <= 4 * max(1, workers)
    assert own <= default_slots(FirstLook(10.0), rows, threads, max(1, workers))


@pytest.mark.parametrize(("workers", "made"), [(0, 4), (2, 8)])
def test_an_interpreter_s_simulators_are_few_whoever_drives_them(monkeypatch, workers, made):
    opened = []
    monkeypatch.setattr(
        resources, "open_slots", lambda *_: SimpleNamespace(close=lambda: None, workers=workers)
    )
    policy = FakePolicy()
    for python in ("python3.9", None):
        spec = EnvSpec("gym:Other-v0", python=python)
        resolved = ResolvedEnvironment("other", TenSteps, Interface(), {}, {}, spec=spec)
        asked = Asked(episodes=50, rows=16, threads=2, workers=workers)
        with computing_here(policy, resolved, FirstLook(10.0), asked) as computing:
            opened.append(computing.n_slots)
    assert opened == [made, 32 if workers == 0 else 50]


def test_a_step_is_tried_where_processes_are_not_given():
    make = partial(TenSteps, nap=0.004)
    resolved = ResolvedEnvironment("ten steps", make, Interface(), {}, {})
    assert first_look(resolved, FakePolicy()).step_seconds is None
    assert first_look(resolved, FakePolicy(), measure=True).step_seconds > 0.004


def test_few_steps_are_no_reason_to_start_processes(monkeypatch):
    monkeypatch.setattr("dipole.envs.rollout.first_look._step_seconds", lambda *_: 0.005)
    metrics = evaluate(FakePolicy(), partial(TenSteps, nap=0.004), episodes=2, workers=None).metrics
    assert metrics["step_ms"] == pytest.approx(5)
    assert metrics["workers"] == 0
    assert "waiting" not in metrics["seconds_by_part"]
    assert metrics["seconds_by_part"]["simulation"] > 20 * 0.004
    assert metrics["steps_per_second"] == pytest.approx(20 / metrics["seconds"])


@pytest.mark.parametrize(
    ("idle", "call_seconds", "sent"), [(False, 0.001, 0), (True, 0.001, 3), (True, 0.1, 0)]
)
def test_fewer_rows_are_inferred_for_where_a_worker_waits_and_a_call_is_short(
    idle, call_seconds, sent
):
    calls = [SimpleNamespace(seconds=call_seconds)]
    executor = SimpleNamespace(inference_batch_size=16, calls=calls)
    run = EpisodeRun(executor, SimpleNamespace(idle=idle, busy=5, workers=2))
    run.times.turns, run.times.simulating = 10, 0.5  # of a turn 50 ms
    started = []
    run._start_plan = started.append
    run._waiting.extend(range(3))
    run._start_plans()
    assert sum(started) == sent
