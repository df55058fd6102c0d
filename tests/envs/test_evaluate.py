"""Evaluation as a list of episodes: the same results, bit for bit, however they are run."""

import csv
import json
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluate import evaluate
from dipole.envs.interface import Interface
from dipole.envs.rollout import Command, LocalSlots, RolloutError, Simulator

sys.path.insert(0, str(Path(__file__).parent))  # worker processes find the module the same way
from fake_policy import FakePolicy
from tiny_simulator import ShySimulator, TinySimulator

FILES = ["metrics.json", "episodes.csv"]


@pytest.fixture(scope="module")
def reference():
    """Twelve episodes, one simulator after another in this process."""
    return evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, n_envs=1).episodes


def test_episode_i_has_seed_i(reference):
    assert [episode.seed for episode in reference] == list(range(3, 15))
    alone = evaluate(FakePolicy(), TinySimulator, episodes=1, seed=10).episodes
    assert alone == [reference[7]]


def test_episodes_differ_and_end_at_different_times(reference):
    assert len({episode.max_reward for episode in reference}) == 12
    assert len({episode.steps for episode in reference}) > 3


@pytest.mark.parametrize("n_envs", [2, 5, 12, 40])
def test_results_do_not_depend_on_the_number_of_environments(reference, n_envs):
    result = evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, n_envs=n_envs)
    assert result.episodes == reference


@pytest.mark.parametrize(("workers", "n_envs"), [(1, 3), (2, None), (3, 7)])
def test_results_do_not_depend_on_worker_processes(reference, workers, n_envs):
    result = evaluate(
        FakePolicy(), TinySimulator, episodes=12, seed=3, workers=workers, n_envs=n_envs
    )
    assert result.episodes == reference


class ShufflingSlots(LocalSlots):
    """Answers one command at a time, in an order drawn at random."""

    rng = np.random.default_rng(1)

    def collect(self):
        self._commands.rotate(int(self.rng.integers(len(self._commands))))
        return [self._pool.perform(self._commands.popleft())]


def test_results_do_not_depend_on_the_order_of_arrival(reference, monkeypatch):
    monkeypatch.setattr(
        sys.modules["dipole.envs.evaluation.resources"], "LocalSlots", ShufflingSlots
    )
    for _ in range(3):
        result = evaluate(
            FakePolicy(), TinySimulator, episodes=12, seed=3, inference_batch_size=16, n_envs=7
        )
        assert result.episodes == reference


def test_results_do_not_depend_on_being_looked_at(reference):
    filmed = evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, video_episodes=5)
    unseen = evaluate(FakePolicy(), ShySimulator, episodes=12, seed=3)
    assert filmed.episodes == unseen.episodes == reference


def counted(simulator, made):
    def make(observation):
        made.append(simulator(observation))
        return made[-1]

    return make


def test_nobody_simulates_or_infers_for_a_finished_episode(reference):
    made, policy = [], FakePolicy()
    evaluate(policy, counted(TinySimulator, made), episodes=12, seed=3, n_envs=4)
    assert len([env for env in made if env.steps_made]) == 4  # and one that is looked at before
    assert sum(env.steps_made for env in made) == sum(episode.steps for episode in reference)
    chunks = [-(-episode.steps // 4) for episode in reference]
    alone = FakePolicy()
    evaluate(alone, TinySimulator, episodes=12, seed=3, n_envs=1)
    assert alone.calls == sum(chunks)
    assert policy.calls < sum(chunks) / 2  # free slots took the next episode: calls were shared


def test_only_the_observations_that_count_are_looked_at():
    made = []
    slots = LocalSlots(lambda: counted(ShySimulator, made)(("position",)), n_obs_steps=2)
    slots.send(Command(slot=0, episode=0, seed=4))
    slots.send(Command(slot=0, episode=0, seed=4, actions=np.zeros((5, 2))))
    first, turn = slots.collect()
    assert len(first.observations) == 1
    assert (len(turn.rewards), len(turn.observations), turn.done) == (5, 2, False)
    assert made[0].looks == 1 + 2
    assert made[0].renders == 0


def test_a_finished_turn_carries_no_observations_and_stops_stepping():
    slots = LocalSlots(TinySimulator, n_obs_steps=2)
    slots.send(Command(slot=0, episode=0, seed=5))  # nine steps long
    slots.send(Command(slot=0, episode=0, seed=5, actions=np.zeros((12, 2))))
    _, turn = slots.collect()
    assert (len(turn.rewards), turn.observations, turn.done) == (9, [], True)


def test_one_action_per_chunk_keeps_the_history_of_two():
    policy = FakePolicy()
    shown = []
    predict = policy.predict
    policy.predict = lambda o, generator: (shown.append(o["position"][0]), predict(o, generator))[1]
    evaluate(policy, TinySimulator, episodes=1, seed=5, n_action_steps=1)
    assert len(shown) == 9
    assert torch.equal(shown[0][0], shown[0][1])
    for before, now in pairwise(shown):
        assert torch.equal(before[1], now[0])
        assert not torch.equal(now[0], now[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_simulator_that_raises_is_an_error_that_names_the_episode(workers):
    with pytest.raises(RolloutError, match=r"episode 2 \(seed 5\).*ZeroDivisionError: the physics"):
        evaluate(
            FakePolicy(),
            TinySimulator,
            episodes=6,
            seed=3,
            workers=workers,
            environment_options={"raises_in": 5},
        )


def test_a_worker_that_dies_is_an_error_that_names_the_episode():
    with pytest.raises(RolloutError, match=r"exit code 7 .*episode 4 \(seed 4\)"):
        evaluate(
            FakePolicy(),
            TinySimulator,
            episodes=6,
            workers=2,
            environment_options={"dies_in": 4},
        )


def test_without_success_the_return_decides(reference):
    silent = evaluate(
        FakePolicy(), partial(TinySimulator, forgets_success=True), episodes=12, seed=3, n_envs=1
    )
    metrics = silent.metrics
    assert (metrics["success_rate"], metrics["success_ci95"]) == (None, None)
    assert (metrics["score_name"], metrics["score"]) == ("return_mean", metrics["return_mean"])
    assert [episode.success for episode in silent.episodes] == [None] * 12
    returns = [episode.episode_return for episode in reference]
    assert metrics["return_mean"] == np.mean(returns)
    assert metrics["return_ci95"][0] < np.mean(returns) < metrics["return_ci95"][1]


def test_the_return_is_the_sum_of_an_episode_s_rewards():
    result = evaluate(FakePolicy(), partial(TinySimulator, reward=0.25), episodes=1, seed=5)
    assert (result.episodes[0].steps, result.episodes[0].episode_return) == (9, 2.25)
    assert result.metrics["per_episode"][0]["return"] == 2.25


def test_a_reward_that_is_not_finite_is_refused():
    with pytest.raises(RolloutError, match=r"episode 0 \(seed 0\).*reward is nan"):
        evaluate(FakePolicy(), partial(TinySimulator, reward=float("nan")), episodes=1)


def test_a_policy_that_predicts_nan_is_an_error_that_names_the_episode():
    policy = FakePolicy()
    predict = policy.predict
    policy.predict = lambda o, generator: predict(o, generator) * torch.tensor(float("nan"))
    with pytest.raises(RolloutError, match=r"episode 0 \(seed 8\), step 0: .*not finite"):
        evaluate(policy, TinySimulator, episodes=2, seed=8)


@pytest.mark.parametrize(
    "wrong",
    [{"episodes": 0}, {"workers": -1}, {"n_envs": 0}, {"inference_batch_size": 0}, {"seed": -1}],
)
def test_values_that_cannot_work_are_named(wrong):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        evaluate(FakePolicy(), TinySimulator, **wrong)


def test_progress_hears_of_every_episode_once():
    heard = []
    result = evaluate(FakePolicy(), TinySimulator, episodes=5, progress=heard.append)
    assert sorted(heard, key=lambda episode: episode.seed) == result.episodes


def test_metrics_name_their_terms(tmp_path, reference):
    result = evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, n_action_steps=4)
    assert [path.name for path in result.save(tmp_path / "new" / "folder")] == FILES
    metrics = json.loads((tmp_path / "new" / "folder" / "metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["episodes"] == 12
    assert metrics["success_rate"] == sum(episode.success for episode in reference) / 12
    assert metrics["max_reward_mean"] == np.mean([episode.max_reward for episode in reference])
    assert metrics["final_reward_mean"] == np.mean([episode.final_reward for episode in reference])
    low, high = metrics["max_reward_ci95"]
    assert low < metrics["max_reward_mean"] < high
    assert metrics["per_episode"][0] == {
        "seed": 3,
        "success": reference[0].success,
        "max_reward": reference[0].max_reward,
        "final_reward": reference[0].final_reward,
        "steps": reference[0].steps,
        "return": reference[0].episode_return,
        "success_at_end": reference[0].success_at_end,
    }
    assert (metrics["score_name"], metrics["score"]) == ("success_rate", metrics["success_rate"])
    assert 0 < metrics["policy_ms"]["p50"] <= metrics["policy_ms"]["p99"]
    assert metrics["policy_ms"]["rows"] == 16
    assert metrics["environment"] == {"id": "TinySimulator", "version": "tiny 1"}
    assert metrics["checkpoint"] == "runs/fake"
    assert metrics["solver"] == {"name": "fake", "steps": 3}
    assert (metrics["seed"], metrics["n_action_steps"]) == (3, 4)
    assert metrics["seconds"] > 0


def test_final_reward_is_the_last_and_max_reward_the_largest(reference):
    assert all(episode.final_reward <= episode.max_reward for episode in reference)
    assert any(episode.final_reward < episode.max_reward for episode in reference)


def at_rate(fps):
    policy = FakePolicy()
    policy.features = SimpleNamespace(observation={"position": None}, fps=fps)
    return policy


def test_a_policy_of_another_rate_than_the_simulator_is_refused():
    said = "trained at 10 actions a second, and the simulator makes 5 steps a second"
    with pytest.raises(ConfigError, match=said):
        evaluate(at_rate(10.0), TinySimulator, episodes=1)


@pytest.mark.parametrize("fps", [5.0, None])
def test_a_policy_of_the_simulator_s_rate_or_of_none_is_evaluated(fps):
    assert len(evaluate(at_rate(fps), TinySimulator, episodes=1).episodes) == 1


STEP = np.zeros((1, 2), np.float32)


@pytest.mark.parametrize(("wrapped", "task", "steps"), [(6, 4, 4), (4, 6, 4), (6, None, 6)])
def test_the_shorter_of_two_limits_ends_an_episode(wrapped, task, steps):
    environment = TimeLimit(ShySimulator(), wrapped)  # whose `step` is not called
    simulator = Simulator(environment, 1, Interface(max_steps=task))
    for _ in range(2):  # episodes: the limit begins anew
        simulator.perform(Command(0, 0, seed=4))
        done = [simulator.perform(Command(0, 0, 4, STEP)).done for _ in range(steps)]
        assert done == [False] * (steps - 1) + [True]


class TellsOnce(TinySimulator):
    """Tells success in the first step of the episode of seed 4, and in no other."""

    def _move(self, action):
        reward, _, over, _ = super()._move(action)
        return reward, False, over, {"good": True} if (self.age, self.seed_now) == (1, 4) else {}


def test_success_that_is_told_once_is_known_and_each_episode_has_to_tell_it():
    simulator = Simulator(TellsOnce(), 1, Interface(success="good", max_steps=3))
    simulator.perform(Command(0, 0, seed=4))
    turns = [simulator.perform(Command(0, 0, 4, STEP)) for _ in range(3)]
    assert [turn.success for turn in turns] == [True, None, None]
    assert turns[-1].done
    simulator.perform(Command(0, 1, seed=5))
    with pytest.raises(ConfigError, match="no step's info has it"):
        [simulator.perform(Command(0, 1, 5, STEP)) for _ in range(3)]


class ChangesItsWay(TinySimulator):
    """Left at first, right from the fifth step on, and then says nothing."""

    def _move(self, action):
        reward, success, over, info = super()._move(action)
        mode = "left" if self.age < 5 else "right" if self.age == 5 else None
        return reward, success, over, info | {"mode": mode}


def test_the_last_mode_that_an_episode_tells_counts():
    result = evaluate(FakePolicy(), ChangesItsWay, episodes=1, seed=4)
    assert result.episodes[0].steps > 5
    assert result.episodes[0].mode == "right"


def test_an_evaluation_of_before_is_moved_with_all_of_its_files(tmp_path):
    first = evaluate(FakePolicy(), TinySimulator, episodes=2, video_episodes=1)
    second = evaluate(FakePolicy(), TinySimulator, episodes=3)
    names = sorted(path.name for path in first.save(tmp_path))
    assert "episodes.mp4" in names
    for number in ("1", "2"):
        assert [path.name for path in second.save(tmp_path)] == FILES
        assert (tmp_path / "earlier" / number).is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier", *sorted(FILES)]
    assert sorted(path.name for path in (tmp_path / "earlier" / "1").iterdir()) == names
    assert json.loads((tmp_path / "earlier" / "2" / "metrics.json").read_text()) == second.metrics


def test_episodes_are_a_table_too(tmp_path):
    result = evaluate(FakePolicy(), ChangesItsWay, episodes=2, seed=4)
    result.episodes[1] = replace(result.episodes[1], mode=None, successes={"last_step": True})
    result.save(tmp_path)
    with (tmp_path / "episodes.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["seed"], first["mode"], first["successes.last_step"]) == ("4", "right", "")
    assert (second["seed"], second["mode"], second["successes.last_step"]) == ("5", "", "True")
    assert float(second["max_reward"]) == result.episodes[1].max_reward


def test_an_evaluation_is_not_written_into_a_dataset(tmp_path):
    (tmp_path / "zarr.json").write_text("{}")
    result = evaluate(FakePolicy(), TinySimulator, episodes=1)
    with pytest.raises(ConfigError, match="a dataset lies there"):
        result.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]


class LosesACamera(TinySimulator):
    """Its camera is there in episodes of odd seeds; of seed 7 for two steps."""

    def _look(self):
        blind = self.seed_now % 2 == 0 or (self.seed_now == 7 and self.age > 2)
        seen = super()._look()
        return {name: value for name, value in seen.items() if name != "camera" or not blind}


class MayGoWithoutCamera(FakePolicy):
    features = SimpleNamespace(observation={"position": None, "camera": None})
    optional = ("camera",)

    def predict(self, observation, generator=None):
        chunk = super().predict(observation, generator)
        return chunk * observation["camera"][:, -1:] if "camera" in observation else chunk


def test_episodes_with_and_without_a_sensor_are_those_that_each_is_alone():
    together = evaluate(MayGoWithoutCamera(), LosesACamera, episodes=5)
    alone = [evaluate(MayGoWithoutCamera(), LosesACamera, episodes=1, seed=i) for i in range(5)]
    assert together.episodes == [each.episodes[0] for each in alone]


def test_a_sensor_that_is_lost_within_an_episode_is_an_error_that_names_both():
    with pytest.raises(
        RolloutError, match=r"episode 1 \(seed 7\), step \d+: .*'camera' is missing"
    ):
        evaluate(MayGoWithoutCamera(), LosesACamera, episodes=2, seed=6)
