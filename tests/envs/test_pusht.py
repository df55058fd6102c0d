"""Push-T: the paper's keypoints, ends, options, and nothing drawn for nobody."""

import os
from pathlib import Path

import numpy as np
import pytest

from dipole.data import EpisodeStore
from dipole.data.core.errors import ConfigError
from dipole.envs import environment_version, make_env, pusht_keypoints
from dipole.envs.pusht.coverage import coverage
from dipole.envs.pusht.drawing import Drawing
from dipole.envs.pusht.geometry import GOAL_POSE, OUTLINE, to_block, to_world
from dipole.envs.pusht.physics import PushWorld

gym_pusht = pytest.importorskip("gym_pusht.envs.pusht")


def _wander(env, seed, steps):
    """Actions around the block, so that it is pushed."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.clip(env.state[2:4] + random.normal(0, 60, 2), 0, 512)


def test_the_start_of_seed_0_is_the_pinned_version_s():
    observation, _ = make_env("pusht", observation=("state",)).reset(seed=0)
    expected = [390.0, 304.0, 241.542557, 268.516968, 3.399037]
    np.testing.assert_allclose(observation["state"], expected, atol=1e-3)
    assert environment_version("pusht") == {"id": "pusht", "version": "gym-pusht 0.1.8"}


def test_set_state_is_the_identity():
    env, random = make_env("pusht"), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(20):
        state = random.uniform([50, 50, 100, 100, 0], [450, 450, 400, 400, 2 * np.pi])
        env.set_state(state)
        np.testing.assert_allclose(env.state, state, rtol=0, atol=1e-12)


def test_an_episode_can_start_from_a_state():
    state = [100.0, 120.0, 250.0, 260.0, 1.5]
    observation, _ = make_env("pusht").reset(seed=3, options={"state": state})
    np.testing.assert_array_equal(observation["state"], np.float32(state))


def test_a_block_on_the_goal_succeeds_with_reward_1():
    env = make_env("pusht")
    env.reset(seed=0, options={"state": [50, 50, 256, 256, np.pi / 4]})
    _, reward, terminated, truncated, info = env.step(np.array([50.0, 50.0]))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["is_success"]
    assert info["coverage"] == pytest.approx(1.0)


def test_reward_is_coverage_over_0_95():
    env = make_env("pusht")
    env.reset(seed=0, options={"state": [50, 50, 276, 256, np.pi / 4]})
    _, reward, terminated, _, info = env.step(np.array([50.0, 50.0]))
    assert 0.5 < info["coverage"] < 0.9
    assert reward == pytest.approx(info["coverage"] / 0.95)
    assert not terminated


def test_an_episode_is_cut_after_300_steps():
    env = make_env("pusht", observation=("agent_pos",))
    env.reset(seed=0)
    cut = [env.step(np.array([390.0, 304.0]))[3] for _ in range(300)]
    assert cut.index(True) == 299


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (("keypoint", "agent_pos"), {"keypoint": (9, 2), "agent_pos": (2,)}),
        (("state",), {"state": (5,)}),
        (("image", "agent_pos"), {"image": (96, 96, 3), "agent_pos": (2,)}),
    ],
)
def test_an_observation_has_what_was_asked_for(names, shapes):
    env = make_env("pusht", observation=names)
    observation, _ = env.reset(seed=5)
    assert {name: value.shape for name, value in observation.items()} == shapes
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(env.step(np.array([256.0, 256.0]))[0])


def test_nothing_is_drawn_unless_it_is_looked_at(monkeypatch):
    drawn = []
    monkeypatch.setattr(Drawing, "draw", lambda self, world, size: drawn.append(size))
    blind = make_env("pusht", observation=("keypoint", "agent_pos", "state"))
    seeing = make_env("pusht", observation=("image",))
    for env in (blind, seeing):
        env.reset(seed=0)
        env.step(np.array([1.0, 1.0]))
        env.advance(np.array([1.0, 1.0]))
    assert drawn == [96, 96]  # by the second one, after its reset and its step


def test_a_scene_has_the_size_asked_for_and_shows_the_goal():
    env = make_env("pusht", render_size=200)
    env.reset(seed=0, options={"state": [20, 20, 100, 400, 0.0]})
    scene = env.render()
    assert scene.shape == (200, 200, 3)
    assert scene.dtype == np.uint8
    assert tuple(scene[116, 84]) == (144, 238, 144)  # light green, half down the stem of the goal


@pytest.mark.parametrize("action", [[1.0], [np.nan, 0.0], [1.0, 2.0, 3.0]])
def test_an_action_that_is_no_position_is_refused(action):
    env = make_env("pusht")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step(np.array(action))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: make_env("pushtt"), "did you mean 'pusht'"),
        (lambda: make_env("pusht", observation=("keypoints",)), "did you mean 'keypoint'"),
        (lambda: make_env("pusht", rendersize=3), "did you mean 'render_size'"),
        (lambda: make_env("pusht", render_size=0), "at least 1"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(wrong, said):
    with pytest.raises(ConfigError, match=said):
        wrong()


def _human_data():
    folder = Path(
        os.environ.get("DIPOLE_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data"
    )
    path = folder / "pusht" / "pusht_cchi_v7_replay.zarr.zip"
    if not path.exists():
        pytest.skip("the human Push-T demonstrations are not here: set DIPOLE_TEST_DATA")
    return EpisodeStore.open(path)


def test_keypoints_are_those_of_the_human_data():
    """Where the block stands still they agree to float32. In contact, the data's keypoints were
    taken up to one step of the physics from its states: 7 % of the frames differ by more than 0.01
    pixels."""
    store = _human_data()
    state, keypoint = store["state"][:], store["keypoint"][:]
    distance = np.abs(pusht_keypoints(state) - keypoint).max(axis=(1, 2))
    assert len(distance) == 25_650
    assert np.quantile(distance, 0.70) < 1e-4
    assert np.mean(distance < 1e-2) > 0.92
    assert np.quantile(distance, 0.999) < 0.5
    assert distance.max() < 2.1


def test_frames_of_block_and_world_are_inverse_to_each_other():
    pose = (100.0, 200.0, 1.2)
    np.testing.assert_allclose(to_block(pose, to_world(pose, OUTLINE)), OUTLINE, atol=1e-12)
    # a quarter turn takes the end of the stem (0, 120) to (-120, 0)
    np.testing.assert_allclose(
        to_world((0, 0, np.pi / 2), np.array([0.0, 120.0])), [-120, 0], atol=1e-9
    )


def test_coverage_of_a_shifted_block():
    assert coverage(GOAL_POSE) == pytest.approx(1.0)
    assert coverage((100.0, 400.0, 0.0)) == 0.0
    # 10 pixels along its own stem: the bar (3600) loses 10/30, less what the stem's end wins back
    shifted = to_world(GOAL_POSE, np.array([0.0, 10.0]))
    lost = 120 * 10 - 30 * 10 + 30 * 10
    assert coverage((*shifted, np.pi / 4)) == pytest.approx(1 - lost / 6300)


def test_the_planner_s_world_moves_as_the_environment_does():
    env, world = make_env("pusht"), PushWorld()
    env.reset(seed=7, options={"state": [300, 300, 256, 256, 2.0]})
    world.set(env.state[:2], np.zeros(2), env.pose)
    for action in _wander(env, 7, 15):
        env.step(action)
        world.step(action)
        np.testing.assert_allclose(world.pose, env.pose, atol=1e-9)
        np.testing.assert_allclose(world.agent_position, env.state[:2], atol=1e-9)
