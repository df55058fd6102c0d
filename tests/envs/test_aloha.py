"""ALOHA's environment and its expert: what is seen, what counts, and that it is done."""

import numpy as np
import pytest

from dipole.apps.compose import compose
from dipole.data.core.errors import ConfigError
from dipole.envs import EnvSpec, make_env
from dipole.envs.experts import find_expert

pytestmark = pytest.mark.heavy
pytest.importorskip("gym_aloha")
pytest.importorskip("mujoco")


def played(task, seed, **options):
    """One episode of the expert: its actions, the rewards, and the last info."""
    env = make_env(f"aloha/{task}", **options)
    expert = find_expert("scripted", EnvSpec(f"aloha/{task}")).build(env)
    observation, _ = env.reset(seed=seed)
    expert.reset(seed)
    actions, rewards, over = [], [], False
    while not over:
        actions.append(expert.act(observation))
        observation, reward, terminated, truncated, info = env.step(actions[-1].astype(np.float32))
        rewards.append(reward)
        over = terminated or truncated
    return np.array(actions), rewards, info


def test_only_what_is_asked_for_is_computed():
    env = make_env("aloha/insertion", observation=("state", "environment_state", "velocity"))
    observation, _ = env.reset(seed=0)
    assert {k: v.shape for k, v in observation.items()} == {
        "state": (14,),
        "environment_state": (14,),
        "velocity": (14,),
    }
    assert env.unwrapped._renderers._made == {}


def test_pictures_are_taught_where_the_cube_is():
    target = compose("train", ["task=aloha/transfer_cube_image"])["task"]["targets"]["cube"]
    env = make_env("aloha/transfer_cube", observation=(target["source"],))
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        x, y, z = observation[target["source"]][target["columns"]]
        assert 0 <= x <= 0.2
        assert 0.4 <= y <= 0.6
        assert 0 < z < 0.1


def test_pictures_and_depth_have_the_size_that_is_asked_for():
    env = make_env("aloha/transfer_cube", observation=("top", "top_depth"), image_size=[48, 64])
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["top"].shape == (48, 64, 3)
    red = (observation["top"].astype(int) @ [1, -1, 0]) > 60  # the cube is right of the middle
    assert np.argwhere(red)[:, 1].mean() > 32
    assert 0.7 < observation["top_depth"][24, 32, 0] < 0.9  # the table, 0.8 m below the camera
    assert env.render().shape == (360, 480, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observation": ("tpo",)}, "did you mean 'top'"),
        ({"observation": ()}, "is empty"),
        ({"image_size": [96]}, "image_size"),
        ({"action_repeat": 0}, "action_repeat is 0"),
        ({"render_camera": "angel"}, "did you mean 'angle'"),
    ],
)
def test_options_that_cannot_work_are_answered(options, message):
    with pytest.raises(ConfigError, match=message):
        make_env("aloha/transfer_cube", **options)


@pytest.mark.parametrize("action", [np.zeros(13), np.full(14, np.nan)])
def test_an_action_is_fourteen_finite_numbers(action):
    env = make_env("aloha/transfer_cube")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="14 finite numbers"):
        env.step(action)


def test_a_repeated_action_is_two_steps():
    one, two = make_env("aloha/transfer_cube"), make_env("aloha/transfer_cube", action_repeat=2)
    seen, _ = one.reset(seed=3)
    two.reset(seed=3)
    assert (one.max_steps, two.max_steps, two.dt) == (400, 200, 0.04)
    action = seen["state"] + np.float32(0.05)
    one.step(action)
    np.testing.assert_array_equal(one.step(action)[0]["state"], two.step(action)[0]["state"])


def test_holding_keeps_the_arms_where_they_are():
    env = make_env("aloha/transfer_cube")
    before, _ = env.reset(seed=0)
    for _ in range(20):
        after = env.step(env.hold_action())[0]
    np.testing.assert_allclose(after["state"], before["state"], atol=0.01)


@pytest.mark.parametrize("task", ["transfer_cube", "insertion"])
def test_the_expert_does_the_task(task):
    actions, rewards, info = played(task, seed=0)
    assert len(actions) == 400
    assert max(rewards) == 4
    assert info["is_success"]  # at the end, too
    assert info["successes"]["released" if task == "transfer_cube" else "lifted"]
    joints = np.delete(actions, [6, 13], axis=1)
    assert np.abs(np.diff(joints, axis=0)).max() / 0.02 < 3.14  # rad/s, of a ViperX


def test_an_episode_may_end_at_success():
    actions, rewards, info = played("transfer_cube", 1, end_at_success=True, action_repeat=2)
    assert info["is_success"]
    assert rewards[-1] == 4
    assert len(actions) < 200


def test_demonstrations_of_different_seeds_differ_and_repeat():
    one, other, again = (played("transfer_cube", s, max_steps=60)[0] for s in (4, 5, 4))
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_array_equal(one, again)


def test_joints_are_found_for_a_pose():
    from dipole.envs.aloha.expert.grasps import facing
    from dipole.envs.aloha.expert.kinematics import Kinematics
    from dipole.envs.aloha.expert.pose import Pose
    from dipole.envs.aloha.joints import START
    from dipole.envs.aloha.simulation import load_model

    kinematics = Kinematics(load_model("bimanual_viperx_transfer_cube.xml"))
    goal = Pose(np.array([0.05, 0.58, 0.03]), facing("right", 1.0, 0.3))
    joints = kinematics.solve("right", goal, START[8:14], iterations=100)
    found = kinematics.pose("right", joints)
    np.testing.assert_allclose(found.position, goal.position, atol=5e-4)
    np.testing.assert_allclose(found.rotation, goal.rotation, atol=5e-3)


@pytest.mark.parametrize("steps", [60, 170])  # above the cube, and with the cube in the hand
def test_the_expert_takes_over_anywhere(steps):
    env = make_env("aloha/transfer_cube", max_steps=600)
    expert = find_expert("scripted", EnvSpec("aloha/transfer_cube")).build(env)
    observation, _ = env.reset(seed=2)
    best = 0.0
    expert.reset(seed=2)
    for step in range(600):
        if step == steps:
            expert.reset(seed=3)
        observation, reward, *_ = env.step(expert.act(observation).astype(np.float32))
        best = max(best, reward)
    assert best == 4
