"""MetaWorld: episodes that are functions of the seed, upright cameras, shared simulators."""

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.envs import make_env
from dipole.envs.experts import EXPERTS

pytestmark = pytest.mark.heavy
pytest.importorskip("metaworld")
mujoco = pytest.importorskip("mujoco")


def made(task, *observation, **options):
    return make_env(f"metaworld/{task}", observation or None, **options)


def trajectory(environment, seed, steps=3):
    observation, _ = environment.reset(seed=seed)
    states = [observation["state"]]
    for _ in range(steps):
        states.append(environment.step(np.array([1, 0.5, -1, 1], np.float32))[0]["state"])
    return np.stack(states)


def test_tasks_and_sets_are_metaworld_s_own_in_its_order():
    from metaworld import env_dict

    from dipole.envs.metaworld.tasks import SETS, TASKS

    assert [f"{name}-v3" for name in TASKS] == list(env_dict.ALL_V3_ENVIRONMENTS)
    assert [f"{name}-v3" for name in SETS["mt10"]] == list(env_dict.MT10_V3)
    assert [f"{name}-v3" for name in SETS["mt50"]] == list(env_dict.MT50_V3)


def test_an_episode_is_a_function_of_its_seed_whatever_came_before():
    first, second = made("drawer-open"), made("drawer-open")
    expected = trajectory(first, 3)
    np.random.seed(0)  # what MetaWorld draws from by default
    trajectory(second, 8)
    np.testing.assert_array_equal(trajectory(second, 3), expected)
    assert np.abs(trajectory(second, 4)[0] - expected[0]).max() > 0.01


def test_an_episode_is_the_one_of_its_published_random_vector():
    import pickle

    from metaworld.types import Task

    environment = made("box-close")
    expected = trajectory(environment, 3)
    sawyer = environment.simulator.sawyer
    drawn = {"rand_vec": sawyer._last_rand_vec, "env_cls": type(sawyer)}
    environment.reset(seed=5)
    sawyer.set_task(Task("box-close-v3", pickle.dumps(drawn | {"partially_observable": False})))
    np.testing.assert_array_equal(np.float32(sawyer.reset()[0]), expected[0])
    state = environment.step(np.array([1, 0.5, -1, 1], np.float32))[0]["state"]
    np.testing.assert_array_equal(state, expected[1])


def test_an_episode_of_a_set_is_the_one_of_its_task_with_the_same_seed():
    tasks, alone = made("mt10"), made("pick-place")
    observation, info = tasks.reset(seed=12)
    assert info["task"] == "pick-place"
    assert observation["task"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(observation["state"], alone.reset(seed=12)[0]["state"])


def test_some_tasks_of_a_set_keep_their_seeds_and_their_places_in_the_vector():
    some, alone = made("mt10", only=["window-open", "push"]), made("push")
    assert some.observation_space["task"].shape == (10,)
    assert [some.reset(seed=seed)[1]["task"] for seed in (4, 5)] == ["window-open", "push"]
    assert some.tasks == ("window-open", "push")  # each is filmed once
    observation = some.observe()
    assert observation["task"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(observation["state"], alone.reset(seed=5)[0]["state"])


def test_an_episode_borrows_a_simulator_and_gives_it_back():
    one, other = made("reach"), made("reach")
    one.reset(seed=0)
    first = one.simulator
    other.reset(seed=1)
    assert other.simulator is not first
    one.close()
    with pytest.raises(ConfigError, match="call reset first"):
        one.render()
    third = made("reach")
    third.reset(seed=2)
    assert third.simulator is first


def demonstrated(**options):
    """What each step of a demonstration says: (is_success, terminated, truncated)."""
    environment = made("reach", **options)
    demonstrator = EXPERTS["metaworld"].build(environment)
    observation, _ = environment.reset(seed=1)
    demonstrator.reset(1)
    steps = []
    while not steps or not (steps[-1][1] or steps[-1][2]):
        action = demonstrator.act(observation)
        observation, _, terminated, truncated, info = environment.step(action)
        steps.append((info["is_success"], terminated, truncated))
    return steps


def test_an_episode_ends_at_success_and_a_demonstration_twenty_steps_later():
    ends, goes_on = demonstrated(), demonstrated(**EXPERTS["metaworld"].options)
    assert ends[-1] == (True, True, False)
    assert not any(success for success, *_ in ends[:-1])
    assert len(goes_on) == len(ends) + 20


def test_as_published_an_episode_goes_on_to_its_last_step():
    steps = demonstrated(end_at_success=False, max_steps=80)
    assert len(steps) == 80
    assert steps[-1] == (True, False, True)


def test_only_what_is_observed_is_computed_and_cameras_are_upright():
    environment = made("reach", "corner2", "corner2_depth", "instruction", image_size=48)
    observation, _ = environment.reset(seed=0)
    assert sorted(observation) == ["corner2", "corner2_depth", "instruction"]
    assert observation["instruction"] == "move the hand to the goal"
    picture, depth = observation["corner2"], observation["corner2_depth"]
    assert (picture.shape, picture.dtype) == ((48, 48, 3), np.uint8)
    assert (depth.shape, depth.dtype) == ((48, 48, 1), np.float32)
    assert environment.observation_space.contains(observation)
    assert np.median(depth[-8:]) < np.median(depth[:8])  # what is below is nearer


def test_every_camera_that_is_turned_is_upside_down_in_the_model():
    from dipole.envs.metaworld.simulator import UPSIDE_DOWN
    from dipole.envs.metaworld.tasks import CAMERAS, MOVED

    environment = made("reach")
    environment.reset(seed=0)
    data = environment.simulator.sawyer.data
    mounted = set(CAMERAS) - set(MOVED)
    upwards = {name: data.camera(name).xmat.reshape(3, 3)[2, 1] for name in mounted}
    assert {name for name, z in upwards.items() if z < -0.1} == UPSIDE_DOWN


def test_a_moved_camera_draws_from_its_own_place_and_is_put_back():
    """Near as published: `env.model.cam_pos[2] = [0.75, 0.075, 0.7]`, then MetaWorld's own."""
    names = ("corner2_near", "corner2_near_depth", "corner2")
    environment = made("push", *names, image_size=48)
    observation, _ = environment.reset(seed=0)
    sawyer = environment.simulator.sawyer
    whole = made("push", "corner2", image_size=48)
    np.testing.assert_array_equal(observation["corner2"], whole.reset(seed=0)[0]["corner2"])
    sawyer.model.cam_pos[sawyer.model.camera("corner2").id] = [0.75, 0.075, 0.7]
    mujoco.mj_camlight(sawyer.model, sawyer.data)
    moved = environment.observe()
    np.testing.assert_array_equal(moved["corner2"], observation["corner2_near"])
    away = observation["corner2_near_depth"], moved["corner2_near_depth"]
    np.testing.assert_array_equal(*away)


def test_bad_settings_and_actions_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'corner2'"):
        made("reach", "corner22")
    with pytest.raises(ConfigError, match=r"no observation 'task'.*options\.only=\[reach\]"):
        made("reach", "task")
    with pytest.raises(ConfigError, match="only is 'push': a list of texts or null is needed"):
        made("mt10", only="push")
    with pytest.raises(ConfigError, match="did you mean 'reach'"):
        made("reech")
    environment = made("reach")
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="four finite numbers"):
        environment.step(np.array([0, 0, np.nan, 0], np.float32))


def test_a_demonstration_of_reaching_brings_the_fingers_to_the_goal():
    environment = made("reach", **EXPERTS["metaworld"].options)
    demonstrator = EXPERTS["metaworld"].build(environment)
    observation, _ = environment.reset(seed=1)
    demonstrator.reset(1)
    over = False
    while not over:
        observation, _, over, _, _ = environment.step(demonstrator.act(observation))
    fingers = environment.simulator.sawyer.tcp_center
    assert np.linalg.norm(fingers - observation["state"][-3:]) < 0.025
