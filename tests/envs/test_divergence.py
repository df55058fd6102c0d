"""A simulator whose state is not finite any more: a failed episode, wherever it is simulated."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.apps.commands.evaluate import describe
from dipole.data import Feature, Features, WindowSpec
from dipole.data.store.store import EpisodeStore
from dipole.envs.compare import compare
from dipole.envs.contract import EnvSpec
from dipole.envs.errors import DivergedError
from dipole.envs.evaluate import evaluate
from dipole.envs.evaluation.episodes import EpisodeRun
from dipole.envs.interface import Interface
from dipole.envs.registry import make_env
from dipole.envs.rollout import Command, LocalSlots, RolloutError, Simulator
from dipole.envs.rollout.cluster.slots import RaySlots
from dipole.envs.rollout.stepping import Stepping
from dipole.policy.execution.executor import Executor

sys.path.insert(0, str(Path(__file__).parent))
from acted_ray import ActedRay
from diverging import Advancing, Diverging

FEATURES = Features({"state": Feature((2,))}, Feature((2,), kind="action"))
NAME = "gym:diverging:Diverging-v0"
MUJOCO = ("metaworld/reach", "fetch/push", "maze/umaze", "kitchen/relay", "adroit/door")
HOW = ("observation", "reward", "raises", "told")


class Feedback:
    """Actions are linear in what is observed, with noise of each row's own."""

    window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
    device, solver, checkpoint = torch.device("cpu"), None, None
    features = FEATURES

    def predict(self, observation, generator=None):
        drive = torch.tanh(observation["state"][:, -1])[:, None]
        return drive + torch.stack([torch.randn(8, 2, generator=each) for each in generator])


def run(at, how="observation", **more):
    stays = more.pop("stays", False)
    spec = EnvSpec(NAME, options={"at": at, "how": how, "stays": stays})
    return evaluate(Feedback(), spec, **{"episodes": 4, "n_envs": 2} | more)


@pytest.fixture(scope="module")
def reference():
    return run({})


@pytest.mark.parametrize("how", HOW)
def test_the_episode_ends_there_and_the_others_are_what_they_are(reference, how, capsys):
    found = run({1: 7}, how)
    others, failed = [found.episodes[i] for i in (0, 2, 3)], found.episodes[1]
    assert others == [reference.episodes[i] for i in (0, 2, 3)]
    assert (failed.success, failed.success_at_end, failed.ended_by) == (
        False,
        False,
        "state_not_finite",
    )
    assert failed.steps == 6  # the seventh is not counted, though five were a success
    assert failed.max_reward < 100
    assert found.metrics["ended_by"] == {"state_not_finite": 1}
    assert reference.metrics["ended_by"] == {"state_not_finite": 0}
    assert found.metrics["success_rate"] == 0.75
    told = [each.get("ended_by") for each in found.metrics["per_episode"]]
    assert told == [None, "state_not_finite", None, None]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith("episode 1 (seed 1) ended after 6 steps, as a failure, because the")
    line = "1 of 4 episodes ended because the simulator's state was not finite, and have failed"
    assert f"{line} (seed 1)" in describe(found.metrics)
    json.dumps(found.metrics, allow_nan=False)


def making(*made):
    """What SimulatorPool takes."""
    return partial(Diverging, *made), 2, Interface.of(FEATURES, EnvSpec("any"), {})


def results(slots, n_slots=2):
    return EpisodeRun(Executor(Feedback(), n_slots), slots, say=str).finish(range(3), n_slots)


@settings(max_examples=15, deadline=None)
@given(step=st.integers(1, 9), how=st.sampled_from(HOW), n_envs=st.integers(2, 3))
def test_whichever_step_it_is_and_whatever_runs_beside_it(step, how, n_envs):
    made = making({1: step, 2: max(1, 9 - step)}, how)
    one = results(LocalSlots(*made), 1)
    assert results(LocalSlots(*made), n_envs) == one
    assert one[1].ended_by == ("state_not_finite" if step < 9 else None)
    assert one[1].steps == step - 1
    assert one[1].max_reward < 100
    assert one[0].ended_by is None


@pytest.mark.parametrize("how", HOW)
def test_it_ends_the_same_way_in_the_actors_of_a_cluster(how):
    made = making({1: 3, 2: 6}, how)
    here = results(LocalSlots(*made))
    assert [each.ended_by is not None for each in here] == [False, True, True]
    assert results(RaySlots(ActedRay(), 2, 2, 1.0, *made, None)) == here


def test_a_step_that_can_be_made_without_looking_is_judged_where_the_policy_looks():
    steps = {}
    for step in range(1, 9):
        simulator = Simulator(Advancing({3: step}), *making()[1:])
        chunks = [None, *np.zeros((2, 4, 2))]
        ended = []
        for chunk in chunks:
            turn = simulator.perform(Command(0, 0, 3, actions=chunk))
            ended += [len(turn.rewards)] if turn.diverged else []
            if turn.done:
                break
        steps[step] = ended
    assert steps == {1: [2], 2: [2], 3: [2], 4: [3], 5: [2], 6: [2], 7: [2], 8: []}


@pytest.mark.heavy
@pytest.mark.parametrize("python", [None, sys.executable])
def test_it_ends_the_same_way_in_processes_and_in_another_interpreter(python, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    for how in ("observation", "raises"):
        at = {1: 3, 2: 6}
        here = run(at, how).episodes
        spec = EnvSpec(NAME, options={"at": at, "how": how}, python=python)
        for workers in (0, 2):
            found = evaluate(Feedback(), spec, episodes=4, n_envs=2, workers=workers)
            assert found.episodes == here


def test_an_environment_that_stays_so_is_made_anew(reference):
    found = run({0: 2, 2: 6}, stays=True, n_envs=1)
    assert [each.ended_by is None for each in found.episodes] == [False, True, False, True]
    assert [found.episodes[i] for i in (1, 3)] == [reference.episodes[i] for i in (1, 3)]


def test_a_first_state_that_is_never_finite_is_an_error_that_says_so():
    said = r"episode 2 \(seed 2\): a new environment cannot be reset to a finite state: .*'state'"
    with pytest.raises(RolloutError, match=said):
        run({2: 0}, n_envs=1)
    with pytest.raises(RolloutError, match="reset with seed 0: observation 'state' is not finite"):
        run({0: 0})


def test_a_reward_that_is_not_finite_with_a_state_that_is_stays_an_error():
    class Mistaken(Diverging):
        def step(self, action):
            seen, _, terminated, truncated, info = super().step(action)
            return seen, float("inf"), terminated, truncated, info

    with pytest.raises(RolloutError, match=r"episode 0 \(seed 0\).*reward is inf"):
        evaluate(Feedback(), Mistaken, episodes=1)


def test_where_all_diverge_at_once_all_have_failed():
    at = dict.fromkeys(range(4), 1)
    found = run(at, "raises")
    ends = [(each.steps, each.max_reward, each.success) for each in found.episodes]
    assert ends == [(0, 0.0, None)] * 4
    assert found.metrics["score_name"] == "return_mean"  # nobody told of success
    spec = EnvSpec(NAME, options={"at": at, "how": "raises"}, success="is_success")
    metrics = evaluate(Feedback(), spec, episodes=4).metrics
    assert (metrics["score_name"], metrics["success_rate"]) == ("success_rate", 0.0)
    spec = EnvSpec(NAME, options={"at": at, "how": "raises"}, score="success_rate")
    assert evaluate(Feedback(), spec, episodes=4).metrics["success_rate"] == 0.0


def test_only_finite_frames_are_kept_and_the_end_is_marked(tmp_path):
    for how in ("observation", "raises"):
        path = tmp_path / f"{how}.zarr"
        at = {0: 1, 1: 6, 3: 3}
        found = run(at, how, keep_episodes=path)
        assert found.episodes == run(at, how).episodes  # they do not depend on being kept
        with EpisodeStore.open(path) as store:
            numbers = store.episode_numbers()
            assert np.diff([0, *store.episode_ends]).tolist() == [5, 8, 2]
            assert numbers["seed"].tolist() == [1, 2, 3]  # of seed 0 no frame is finite
            assert numbers["state_not_finite"].tolist() == [1, 0, 1]
            assert numbers["success"].tolist() == [0, 1, 0]


def test_a_dataset_without_any_finite_frame_is_none(tmp_path):
    with pytest.warns(UserWarning, match="no episode had a finite step, so none is kept"):
        found = run({0: 1}, "raises", episodes=1, keep_episodes=tmp_path / "kept.zarr")
    assert len(found.episodes) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_video_of_failures_shows_it_and_prints_no_second_line(capsys):
    found = run({1: 7}, video_episodes=2, video="failures")
    assert [each.seed for each in found.recordings] == [1]
    assert found.recordings[0].done
    assert found.recordings[0].success is False
    assert capsys.readouterr().out.count("ended after") == 1


def test_a_step_that_nobody_looks_at_is_not_shown_as_the_policy_sees_it():
    simulator = Simulator(Advancing({3: 1}), 1, making()[2])
    start = Command(0, 0, 3, record=True, views=True)
    simulator.perform(start)
    turn = simulator.perform(replace(start, actions=np.zeros((2, 2))))
    assert turn.diverged
    assert (len(turn.rewards), turn.frames, turn.views) == (1, [], [])


def test_results_of_before_are_compared_with_those_of_now(reference, tmp_path):
    reference.save(tmp_path / "new")
    old = json.loads((tmp_path / "new/metrics.json").read_text())
    del old["ended_by"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    run({1: 7}).save(tmp_path / "failed")
    found = compare(tmp_path / "old.json", tmp_path / "failed", force=True)  # of other options
    assert (found.only_first, found.only_second) == (1, 0)


class Wild(Feedback):
    """Jumps from bound to bound, and a million times as far in the seeds that are odd."""

    def __init__(self, size, observation="state"):
        self.features = Features({observation: Feature((size,))}, Feature((size,), kind="action"))

    def predict(self, observation, generator=None):
        far = [1e6 if each.initial_seed() % 2 else 0.0 for each in generator]
        drawn = [torch.randn(8, 14, generator=each) for each in generator]
        return torch.stack([a * b for a, b in zip(far, drawn, strict=True)])


@pytest.mark.heavy
def test_mujoco_diverges_and_the_next_episode_is_what_it_is_alone(tmp_path):
    pytest.importorskip("gym_aloha")
    spec = EnvSpec("aloha/transfer_cube", max_steps=40)
    found = evaluate(Wild(14), spec, episodes=4, n_envs=1, keep_episodes=tmp_path / "kept.zarr")
    assert [each.ended_by is not None for each in found.episodes] == [False, True, False, True]
    assert [each.steps == 40 for each in found.episodes] == [True, False, True, False]
    alone = evaluate(Wild(14), spec, episodes=1, seed=2)
    assert alone.episodes == [found.episodes[2]]
    again = evaluate(Wild(14), spec, episodes=4, workers=2)
    assert again.episodes == found.episodes
    with EpisodeStore.open(tmp_path / "kept.zarr") as store:
        assert np.isfinite(store["state"][:]).all()
        assert store.episode_numbers()["state_not_finite"].tolist() == [0, 1, 0, 1]


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name",
    [
        "metaworld/reach",
        "fetch/push",
        "maze/umaze",
        "kitchen/relay",
        "adroit/door",
        "gym:Hopper-v5",
    ],
)
def test_mujoco_begins_anew_without_a_word_and_it_is_seen_all_the_same(name):
    pytest.importorskip("gymnasium_robotics")
    pytest.importorskip("metaworld")
    environment = make_env(EnvSpec(name))
    stepping = Stepping(environment, Interface())
    still = np.zeros(environment.action_space.shape, np.float32)
    stepping.reset(0)
    stepping.advance(still)
    environment.unwrapped.data.qvel[0] = np.nan
    with pytest.raises(DivergedError, match="the simulator says that its state is not finite"):
        stepping.advance(still)
    assert np.isfinite(environment.unwrapped.data.qvel).all()  # of its default state
    stepping.reset(0)
    stepping.advance(still)
    environment.close()
