"""`dipole data convert A OUT mirror=NAME`: episodes, and the same in a mirror."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_source import MemorySource, frames

from dipole.apps.main import main
from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import conversion_identity
from dipole.data.sources.combine.mirrored import mirrored
from dipole.data.sources.registry import open_source
from dipole.envs.pusht.environment import PushT
from dipole.envs.pusht.geometry import (
    GOAL_POSE,
    mirrored_image,
    mirrored_points,
    mirrored_state,
)

NUMBERS = st.floats(100, 400, width=32)
STATES = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.floats(0, 6.28))


def write(path, lengths=(3, 2), **more):
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in lengths:
            frames = {"state": rng.uniform(0, 6, (length, 5)).astype(np.float32)}
            frames["action"] = rng.uniform(0, 512, (length, 2)).astype(np.float32)
            made = {key: make(length) for key, make in more.items()}
            writer.add_episode({**frames, **made}, task=f"{length} frames")
    return path


def test_the_mirrored_episodes_follow_with_their_tasks(tmp_path):
    a, out = write(tmp_path / "a.zarr"), tmp_path / "both.zarr"
    assert main(["data", "convert", str(a), str(out), "--mirror=pusht"]) == 0
    before, after = EpisodeStore.open(a), EpisodeStore.open(out)
    assert after.episode_ends.tolist() == [3, 5, 8, 10]
    assert after.tasks == ["3 frames", "2 frames"] * 2
    for key, mirror in (("state", mirrored_state), ("action", mirrored_points)):
        assert np.array_equal(after[key][:5], before[key][:])
        assert np.array_equal(after[key][5:10], mirror(before[key][:]).astype(np.float32))


def test_a_teacher_s_chunks_are_mirrored_as_actions_are():
    episode = {"action": np.float32([[1, 2]]), "teacher_chunk": np.float32([[[1, 2], [3, 4]]])}
    episode["teacher_chunk_valid"] = np.array([True])
    made = mirrored(MemorySource([episode]), "pusht")
    assert frames(made, "action", 1).tolist() == [[510, 511]]
    assert frames(made, "teacher_chunk", 1).tolist() == [[[510, 511], [508, 509]]]
    assert frames(made, "teacher_chunk_valid", 1).tolist() == [True]


def test_keys_and_episodes_are_chosen_before_the_mirror(tmp_path):
    a = write(tmp_path / "a.zarr", joint=lambda n: np.zeros((n, 1), np.float32))
    out = tmp_path / "both.zarr"
    assert main(["data", "convert", str(a), str(out), "--mirror=pusht"]) != 0
    words = ["--mirror=pusht", "--keys=state,action", "--episodes=1"]
    assert main(["data", "convert", str(a), str(out), *words]) == 0
    assert EpisodeStore.open(out).episode_ends.tolist() == [2, 4]


def test_what_the_mirror_does_not_know_is_named_with_what_it_does(tmp_path):
    a = write(tmp_path / "a.zarr", joint=lambda n: np.zeros((n, 1), np.float32))
    with pytest.raises(DataError, match=r"does not know 'joint'.*--keys action,state.*of your own"):
        mirrored(open_source(a), "pusht")


def test_a_robot_that_is_not_push_t_is_refused(tmp_path):
    a = write(tmp_path / "a.zarr", img=lambda n: np.zeros((n, 4, 6, 3), np.uint8))
    with pytest.raises(DataError, match=r"'img' has .*\[4, 6, 3\].* understands \[96, 96, 3\]"):
        mirrored(open_source(a), "pusht")
    with EpisodeWriter(tmp_path / "arm.zarr", environment={"id": "arm", "version": "1"}) as writer:
        writer.add_episode({"state": np.zeros((3, 5)), "action": np.zeros((3, 2))})
    with pytest.raises(
        DataError, match=r"recorded in 'arm', and --mirror pusht is that of 'pusht'"
    ):
        mirrored(open_source(tmp_path / "arm.zarr"), "pusht")
    with EpisodeWriter(tmp_path / "joints.zarr") as writer:
        writer.add_episode({"joints": np.zeros((3, 26)), "action": np.zeros((3, 26))})
    with pytest.raises(DataError, match=r"'action' .*\[26\].*of your own"):
        mirrored(open_source(tmp_path / "joints.zarr"), "pusht")


def test_a_half_done_conversion_without_the_mirror_is_not_gone_on_with(tmp_path):
    source = open_source(write(tmp_path / "a.zarr"))
    once = mirrored(source, "pusht")
    twice = mirrored(once, "pusht")
    identities = [conversion_identity(s) for s in (source, once, twice)]
    assert identities[0] != identities[1] != identities[2]


@given(STATES)
def test_the_mirror_image_of_the_mirror_image_is_the_state(state):
    state = np.array(state)
    back = mirrored_state(mirrored_state(state))
    assert np.allclose(back[:4], state[:4])
    assert abs(np.angle(np.exp(1j * (back[4] - state[4])))) < 1e-9


def test_the_goal_is_its_own_mirror_image():
    goal = np.array([0.0, 512.0, *GOAL_POSE])
    assert np.allclose(mirrored_state(goal), goal)


def starts_free(state):
    """Where a start puts the agent into the block, rounding decides which way it is thrown out; the
    walls, at 5 and 506, are each other's mirror image to a pixel only."""
    agent, block = state[:2], state[2:4]
    return np.linalg.norm(agent - block) > 140 and min(block) > 130 and max(block) < 380


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_the_mirrored_block_moves_like_the_block_in_the_mirror(seed, actions):
    env, mirrored = PushT(observation=("state",)), PushT(observation=("state",))
    env.reset(seed=seed)
    while not starts_free(env.state):
        seed += 1
        env.reset(seed=seed)
    mirrored.reset(seed=0, options={"state": mirrored_state(env.state)})
    for action in np.array(actions):
        reward, *_ = env.advance(action)
        reflected, *_ = mirrored.advance(mirrored_points(action))
        assert reward == pytest.approx(reflected, abs=1e-9)
        assert np.allclose(mirrored_state(env.state)[:4], mirrored.state[:4], atol=1e-9)


def test_a_picture_of_the_mirrored_state_is_nearly_the_picture_in_the_mirror():
    env = PushT(observation=("image",))
    state = np.array([120.0, 300.0, 250.0, 200.0, 1.0])
    pictures = []
    for shown in (state, mirrored_state(state)):
        env.reset(seed=0, options={"state": shown})
        pictures.append(env.observe()["image"].astype(int))
    difference = np.abs(mirrored_image(pictures[0]) - pictures[1])
    apart = np.abs(pictures[0] - pictures[1])
    assert difference.mean() < 3 < apart.mean()  # edges, half a pixel apart
