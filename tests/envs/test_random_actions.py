"""The expert of random actions: of any environment with bounds, and no demonstration of a task."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from dipole.apps.main import main
from dipole.data import EpisodeStore
from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import EXPERTS, find_expert
from dipole.envs.experts.demonstrate import demonstrate
from dipole.envs.experts.random_actions import LONGEST, RandomActions

sys.path.insert(0, str(Path(__file__).parent))
from experts import SPEC, walking

LOW, HIGH = np.array([-1.0, 0.0, 5.0], np.float32), np.array([1.0, 0.5, 500.0], np.float32)


def acting(low=LOW, high=HIGH, **more):
    wrapped = SimpleNamespace(**more)
    return RandomActions(SimpleNamespace(action_space=spaces.Box(low, high), env=wrapped))


def episode(expert, seed, steps=100):
    expert.reset(seed)
    return np.stack([expert.act(None) for _ in range(steps)])


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_an_episode_is_a_function_of_its_seed_within_the_bounds(seed, other):
    expert = acting()
    first = episode(expert, seed)
    assert first.dtype == np.float32
    assert ((first >= LOW) & (first <= HIGH)).all()
    episode(expert, other, 7)
    np.testing.assert_array_equal(episode(expert, seed), first)
    if seed != other:
        assert (episode(expert, other) != first).any()


def test_it_is_on_its_way_to_an_action_that_it_drew_for_at_most_sixteen_steps():
    actions = episode(acting(), 3, 2000).astype(float)
    turns = np.flatnonzero(np.abs(np.diff(actions, n=2, axis=0))[:, 0] > 1e-5) + 1
    assert np.diff(turns).max() <= LONGEST
    drawn = actions[turns]
    assert (drawn.min(0) < LOW + 0.1 * (HIGH - LOW)).all()
    assert (drawn.max(0) > HIGH - 0.1 * (HIGH - LOW)).all()


def test_it_begins_where_the_environment_holds_still():
    hold = np.array([0.5, 0.5, 100.0], np.float32)
    straight = 0
    for seed in range(20):
        actions = episode(acting(hold_action=lambda: hold), seed, 2)
        first, second = np.diff([hold, *actions], axis=0)
        straight += np.allclose(first, second, rtol=1e-3, atol=1e-5)
    assert straight > 10  # but for those that reach their first action in one step


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-np.inf, 1, (2,))])
def test_actions_without_bounds_are_refused(space):
    with pytest.raises(ConfigError, match="draws actions between bounds"):
        RandomActions(SimpleNamespace(action_space=space))


def test_it_acts_in_any_environment_but_only_where_it_is_asked_for():
    for name in ("pusht", "metaworld/push"):
        assert find_expert("scripted", EnvSpec(name)) is not EXPERTS["random"]
        assert find_expert("random", EnvSpec(name)) is EXPERTS["random"]
    with pytest.raises(ConfigError, match="no expert acts in 'gym:CartPole-v1'"):
        find_expert(None, EnvSpec("gym:CartPole-v1"))
    with walking():
        first = demonstrate(SPEC, 5, expert="random")
        again = demonstrate(SPEC, 5, expert="random")
    np.testing.assert_array_equal(first.frames["action"], again.frames["action"])
    assert len(first) == 30


def test_all_its_episodes_are_kept_by_the_command(tmp_path):
    words = ["expert=random", "episodes=2", "+task.environment.max_steps=20"]
    assert main(["record", *words, f"output={tmp_path / 'r.zarr'}"]) == 0
    store = EpisodeStore.open(tmp_path / "r.zarr")
    assert (store.n_episodes, store.n_frames) == (2, 40)
    assert store.episode_numbers()["success"].tolist() == [0, 0]
    assert store.attributes["recording"]["expert"] == "random"
