"""Fetch: the stock simulator's numbers, a step without looking, success by name, its experts."""

import gymnasium
import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.data.view import SCENES
from dipole.envs import make_env
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import find_expert
from dipole.envs.fetch.expert.sliding import launch_velocity, stopping_way
from dipole.envs.fetch.geometry import METRES_PER_ACTION

STOCK = {
    "reach": "FetchReach-v4",
    "push": "FetchPush-v4",
    "pick-and-place": "FetchPickAndPlace-v4",
    "slide": "FetchSlide-v4",
}


@pytest.fixture(scope="module")
def made():
    """Each task's environment, made once."""
    pytest.importorskip("gymnasium_robotics")
    cache = {}

    def of(task):
        return cache.setdefault(task, make_env(f"fetch/{task}"))

    return of


def rollout(environment, seed, actions, step="step"):
    seen, _ = environment.reset(seed=seed)
    rows = [seen]
    for action in actions:
        rows.append(getattr(environment, step)(action))
    return rows


@pytest.mark.parametrize(
    "way", [(0.3, 0.1), (-0.2, 0.05), (0.1, -0.4), (0.2, 0.2), (0.5, 0.0), (0.0, 0.0)]
)
def test_the_velocity_for_a_way_stops_after_that_way(way):
    assert stopping_way(launch_velocity(np.array(way))) == pytest.approx(way, abs=1e-12)


def test_a_puck_along_an_axis_stops_after_v_squared_over_two_mu_g():
    assert stopping_way(np.array([0.95, 0.0])) == pytest.approx([0.95 / 2, 0.0])


@pytest.mark.heavy
@pytest.mark.parametrize("task", STOCK)
def test_it_is_the_stock_environment_to_the_last_bit(made, task):
    ours, stock = made(task), gymnasium.make(STOCK[task], disable_env_checker=True)
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (12, 4)).astype(np.float32)
    for seed in (3, 1):
        seen, wanted = ours.reset(seed=seed)[0], stock.reset(seed=seed)[0]
        for action in actions:
            assert (seen["state"] == wanted["observation"]).all()
            assert (seen["achieved_goal"] == wanted["achieved_goal"]).all()
            assert (seen["desired_goal"] == wanted["desired_goal"]).all()
            offset = wanted["desired_goal"] - wanted["achieved_goal"]
            assert (seen["goal_offset"] == offset).all()
            ours.render()  # drawing changes nothing that is simulated
            seen, reward, _, _, info = ours.step(action)
            wanted, wanted_reward, _, _, wanted_info = stock.step(action)
            assert (reward, info["is_success"]) == (wanted_reward, wanted_info["is_success"])


@pytest.mark.heavy
def test_what_is_not_looked_at_is_not_computed(made, monkeypatch):
    environment = make_env("fetch/push", observation=("external_camera_0",), image_size=32)
    environment.reset(seed=0)
    monkeypatch.setattr(environment.simulator, "_get_obs", None)
    reward, *_ = environment.advance(np.zeros(4))
    assert reward == -1.0
    picture = environment.observe()["external_camera_0"]
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    assert picture.std() > 10


@pytest.mark.heavy
def test_depth_is_in_metres(made):
    environment = make_env("fetch/push", observation=("external_camera_0_depth",), image_size=32)
    depth = environment.reset(seed=0)[0]["external_camera_0_depth"]
    assert (depth.shape, depth.dtype) == ((32, 32, 1), np.float32)
    assert 0.4 < depth.min() < 0.8  # the arm is between the camera and the table, 0.8 m away


@pytest.mark.heavy
def test_success_is_told_at_any_step_and_at_the_last(made):
    environment = made("reach")
    goal = environment.reset(seed=0)[0]["desired_goal"]
    seen, first = environment.reset(seed=0, options={"goal": goal})
    assert first["successes"] == {"any_step": False, "last_step": False}
    info = first
    for _ in range(10):
        way = (goal - seen["achieved_goal"]) / 0.04
        seen, *_, info = environment.step(np.append(way, 0.0))
    assert info["is_success"]
    assert info["successes"] == {"any_step": True, "last_step": False}
    for step in range(40):  # and away again
        *_, truncated, info = environment.step([0.0, 0.0, 1.0, 0.0])
        assert truncated == (step == 39)
    assert info["task"] == "reach"
    assert info["successes"] == {"any_step": True, "last_step": False}


@pytest.mark.heavy
def test_bad_input_is_answered(made):
    with pytest.raises(ConfigError, match="fetch has no observation 'stat', did you mean 'state'"):
        make_env("fetch/push", observation=("stat",))
    with pytest.raises(ConfigError, match="fetch has no reset option 'object'"):
        made("push").reset(options={"object": 1})
    with pytest.raises(ValueError, match="an action of fetch is 4 finite numbers"):
        made("push").advance([0.0, 0.0, np.nan, 0.0])


def test_an_expert_of_a_task_goes_before_that_of_its_family():
    push, slide = EnvSpec("fetch/push"), EnvSpec("fetch/slide")
    assert not find_expert("scripted", push).disturbance_in(push).changes_nothing
    assert find_expert("scripted", slide).disturbance_in(slide).changes_nothing
    assert find_expert("fetch/slide", EnvSpec("fetch/slide")).environment == "fetch/slide"
    with pytest.raises(ConfigError, match="acts in 'fetch/slide', not in 'fetch'"):
        find_expert("fetch/slide", EnvSpec("fetch/push"))


@pytest.mark.heavy
@pytest.mark.parametrize("task", STOCK)
def test_an_expert_ends_at_the_goal_and_is_a_function_of_the_seed(made, task):
    environment = made(task)
    expert = find_expert("scripted", EnvSpec(f"fetch/{task}")).build(environment)
    runs = []
    for seed in (4, 6, 4):
        seen, _ = environment.reset(seed=seed)
        expert.reset(seed)
        actions, over = [], False
        while not over:
            actions.append(expert.act(seen))
            seen, _, _, over, info = environment.step(actions[-1])
        runs.append((np.array(actions), info["successes"]["last_step"]))
    assert (runs[0][0] == runs[2][0]).all()
    assert [success for _, success in runs] == [True] * 3


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["push", "pick-and-place", "slide"])
def test_places_move_it_as_the_moves_that_lead_there(made, task):
    spec = EnvSpec(f"fetch/{task}", options={"actions": "absolute"})
    moved, told = made(task), make_env(spec)
    by_moves = find_expert(None, EnvSpec(spec.id)).build(moved)
    by_places = find_expert(None, spec).build(told)
    seen, _ = moved.reset(seed=2)
    there, _ = told.reset(seed=2)
    by_moves.reset(2)
    by_places.reset(2)
    for _ in range(50):
        action = by_places.act(there)
        assert told.action_space.contains(action)
        way = (action[:3] - there["state"][:3]) / METRES_PER_ACTION
        np.testing.assert_allclose(way, by_moves.act(seen)[:3], atol=1e-3)
        seen, *_ = moved.step(np.append(way, action[3]))
        there, *_, info = told.step(action)
        np.testing.assert_allclose(there["state"], seen["state"], atol=1e-4)
    assert info["successes"]["last_step"]


@pytest.mark.heavy
def test_a_place_that_is_far_is_gone_to_step_by_step_and_held(made):
    spec = EnvSpec("fetch/reach", options={"actions": "absolute"})
    environment = make_env(spec)
    seen, _ = environment.reset(seed=0)
    way = []
    for _ in range(8):
        before, (seen, *_) = seen["state"][:3], environment.step([1.45, 0.6, 0.6, 0.0])
        way.append(np.abs(seen["state"][:3] - before).max())
    assert max(way) < 1.1 * METRES_PER_ACTION
    np.testing.assert_allclose(seen["state"][:3], [1.45, 0.6, 0.6], atol=3e-3)
    held = environment.hold_action()
    np.testing.assert_allclose(held, [*seen["state"][:3], 0.0], atol=1e-6)
    with pytest.raises(ConfigError, match="fetch's actions are 'relative'"):
        make_env(EnvSpec("fetch/reach", options={"actions": "relative"}))


def test_disturbances_of_places_are_those_of_moves_in_metres():
    moves, places = EnvSpec("fetch/push"), EnvSpec("fetch/push", options={"actions": "absolute"})
    one, other = (find_expert(None, spec).disturbance_in(spec) for spec in (moves, places))
    assert other.drift == pytest.approx(METRES_PER_ACTION * one.drift)
    assert other.shove == pytest.approx(METRES_PER_ACTION * one.shove)
    assert other.scale == one.scale == (1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("task", STOCK)
def test_recordings_of_each_task_have_a_scene(task):
    columns = {"state": 10 if task == "reach" else 25, "desired_goal": 3}
    assert SCENES[f"fetch/{task}"].fits(columns)
