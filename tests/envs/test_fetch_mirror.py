"""In the mirror, mirrored actions have the mirrored outcome."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import EpisodeWriter
from dipole.data.core.errors import DataError
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.mirrored import MIRRORS, mirrored
from dipole.data.sources.registry import open_source
from dipole.envs import make_env
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import find_expert
from dipole.envs.fetch.mirror import mirrored_state

APART = 5e-3  # metres: the arm itself is not alike on both sides
REFLECTIONS = MIRRORS["fetch"].reflections
NAMES = ("state", "achieved_goal", "desired_goal", "goal_offset")


def reflect(name, value):
    return REFLECTIONS[name].reflect(np.asarray(value)[None])[0]


def mirrored_reset(environment, seen, seed):
    """The seed's start as it is in the mirror; what is seen then."""
    goal = reflect("desired_goal", seen["desired_goal"])
    environment.reset(seed=seed, options={"goal": goal})
    simulator = environment.unwrapped.simulator
    joints = simulator._utils
    place = joints.get_joint_qpos(simulator.model, simulator.data, "object0:joint").copy()
    place[:3] = reflect("achieved_goal", place[:3])
    joints.set_joint_qpos(simulator.model, simulator.data, "object0:joint", place)
    simulator._mujoco.mj_forward(simulator.model, simulator.data)
    return environment.unwrapped.observe()


@pytest.mark.parametrize("seed", range(3))
def test_a_block_is_carried_to_the_mirrored_goal(seed):
    pytest.importorskip("gymnasium_robotics")
    spec = EnvSpec("fetch/pick-and-place")
    one, other = make_env(spec), make_env(spec)
    expert = find_expert(None, spec).build(one)
    seen, _ = one.reset(seed=seed)
    expert.reset(seed)
    in_mirror = mirrored_reset(other, seen, seed)
    for _ in range(50):
        for name in NAMES[1:]:
            np.testing.assert_allclose(reflect(name, seen[name]), in_mirror[name], atol=APART)
        state = reflect("state", seen["state"])
        np.testing.assert_allclose(state[:11], in_mirror["state"][:11], atol=APART)
        np.testing.assert_allclose(state[20:], in_mirror["state"][20:], atol=APART)
        action = np.asarray(expert.act(seen), np.float32)
        seen, *_, info = one.step(action)
        in_mirror, *_, mirrored_info = other.step(reflect("action", action))
    assert info["is_success"]
    assert mirrored_info["is_success"]


@given(st.sampled_from([10, 25]), st.integers(0, 2**31))
def test_the_mirror_of_the_mirror_is_what_was_there(width, seed):
    states = np.random.default_rng(seed).normal(size=(3, width)).astype(np.float32)
    once = mirrored_state(states)
    assert once.dtype == np.float32
    assert (once != states).any(axis=1).all()
    np.testing.assert_allclose(mirrored_state(once), states, atol=1e-6)


def test_left_and_right_change_places_and_turns_their_sense():
    state = np.arange(25.0)[None]
    there = mirrored_state(state)[0]
    np.testing.assert_allclose(there[:6], [0, 1.498 - 1, 2, 3, 1.498 - 4, 5])
    assert there[6:11].tolist() == [6, -7, 8, 10, 9]
    assert there[11:20].tolist() == [-11, 12, -13, 14, -15, 16, -17, 18, -19]
    assert there[20:].tolist() == [20, -21, 22, 24, 23]
    assert mirrored_state(np.arange(10.0)).tolist()[2:] == [2, 4, 3, 5, -6, 7, 9, 8]
    with pytest.raises(DataError, match=r"25 numbers \(reach: 10\), not of 12"):
        mirrored_state(np.zeros((1, 12)))


def recorded(path, **said):
    """A dataset of one action [4] that says where it was recorded."""
    with EpisodeWriter(path, fps=25, environment={"id": "fetch/push", **said}) as writer:
        writer.add_episode({"action": np.array([[1.3, 0.6, 0.5, -1.0]], np.float32)})
    return open_source(path)


def test_places_are_mirrored_as_places_and_neither_is_taken_for_the_other(tmp_path):
    moves, places = recorded(tmp_path / "m"), recorded(tmp_path / "p", actions="absolute")
    told = recorded(tmp_path / "t", actions="delta")
    for source, mirror, y in (
        (moves, "fetch", -0.6),
        (told, "fetch", -0.6),
        (places, "fetch_absolute", 1.498 - 0.6),
    ):
        both = mirrored(source, mirror)
        _, other = both.episodes()
        np.testing.assert_allclose(both.open(other).read("action", 0, 1), [[1.3, y, 0.5, -1.0]])
    with pytest.raises(DataError, match="with absolute actions, and --mirror fetch is that of del"):
        mirrored(places, "fetch")
    with pytest.raises(DataError, match="with delta actions, and --mirror fetch_absolute is that"):
        mirrored(moves, "fetch_absolute")
    with pytest.raises(DataError, match=r"p was recorded in fetch/push absolute, but .*m in"):
        joined([moves, places])
