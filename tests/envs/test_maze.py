"""PointMaze: seeds, controls, reset options, its expert, and what it is told by a wrong word."""

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import record_episode
from dipole.envs.maze.maps import LAYOUTS, MazeMap
from dipole.envs.registry import make_env

pytest.importorskip("gymnasium_robotics")
pytestmark = pytest.mark.heavy


def test_the_mazes_are_the_simulator_s():
    from gymnasium_robotics.envs.maze import maps

    theirs = {"umaze": "U_MAZE", "open": "OPEN", "medium": "MEDIUM_MAZE", "large": "LARGE_MAZE"}
    assert set(theirs) == set(LAYOUTS)
    for name, constant in theirs.items():
        assert MazeMap.named(name).numbers == getattr(maps, constant)


def test_a_seed_decides_start_and_goal_and_positions_are_those_of_the_state():
    env = make_env("maze/medium")
    first, _ = env.reset(seed=3)
    other, _ = env.reset(seed=4)
    again, info = env.reset(seed=3)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["goal"], other["goal"])
    assert not np.array_equal(first["position"], other["position"])
    assert np.array_equal(first["state"], [*first["position"], 0, 0])
    assert info == {"is_success": False}


def test_start_and_goal_lie_in_the_cells_that_are_asked_for():
    env = make_env("maze/large")
    seen, _ = env.reset(seed=0, options={"reset_cell": [1, 1], "goal_cell": (7, 10)})
    assert np.abs(seen["position"] - env.maze.centre((1, 1))).max() <= 0.25
    assert np.abs(seen["goal"] - env.maze.centre((7, 10))).max() <= 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_cell": [0, 0]}, "maze's reset_cell is .*free cell"),
        ({"goal_cell": [99, 1]}, "free cell"),
        ({"goal_cel": [1, 1]}, "did you mean 'goal_cell'"),
        ({"goal_cell": 5}, "maze's goal_cell is 5: a row and a column of a free cell"),
        ({"goal_cell": "abc"}, "maze's goal_cell is 'abc'"),
        ({"goal_cell": "11"}, "maze's goal_cell is '11'"),
        ({"goal_cell": [1.9, 1]}, r"maze's goal_cell is \[1.9, 1\]"),
        ({"goal_cell": [True, True]}, r"maze's goal_cell is \[True, True\]"),
        ({"goal_cell": [[1], [1, 1]]}, "maze's goal_cell is"),
    ],
)
def test_reset_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_env("maze/umaze").reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control": "positon"}, "did you mean 'position'"),
        ({"observation": ("picture",)}, "Known: state, position, goal, image"),
        ({"max_steps": 0}, "at least 1"),
    ],
)
def test_what_it_is_not_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_env("maze/umaze", **options)


def test_the_ball_is_where_it_was_sent_when_the_action_is_over():
    env = make_env("maze/umaze")
    seen, _ = env.reset(seed=0, options={"reset_cell": [1, 1]})
    for step in range(1, 11):
        target = seen["position"] + [0.015 * step * min(step, 5) / 5, 0.0]
        seen, *_ = env.step(target)
        assert np.abs(seen["position"] - target).max() < 0.03
    assert env.dt == pytest.approx(0.1)
    assert env.hold_action().tolist() == pytest.approx(seen["position"].tolist())


def test_a_force_is_the_simulator_s_own():
    env = make_env("maze/umaze", control="force")
    env.reset(seed=0, options={"reset_cell": [1, 1]})
    seen = env.step(np.array([1.0, 0.0]))[0]
    assert seen["state"][2] == pytest.approx(100 / 4.19 * 0.01, rel=0.01)
    assert env.max_steps == 300
    assert env.dt == 0.01


@pytest.mark.parametrize("ends", [True, False])
def test_an_episode_ends_at_success_only_where_it_is_asked_to(ends):
    env = make_env("maze/umaze", end_at_success=ends, max_steps=200)
    seen, _ = env.reset(seed=0, options={"reset_cell": [1, 1], "goal_cell": [1, 2]})
    for _ in range(20):
        _, reward, terminated, truncated, info = env.step(seen["goal"])
        if info["is_success"]:
            break
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, ends, False, True)
    assert np.array_equal(env.observe()["goal"], seen["goal"])


def test_a_goal_that_was_reached_is_replaced_only_where_it_is_asked_to():
    env = make_env("maze/umaze", reset_target=True)
    seen, _ = env.reset(seed=0, options={"reset_cell": [1, 1], "goal_cell": [1, 2]})
    now = seen
    while np.array_equal(now["goal"], seen["goal"]):
        now, reward, *_, info = env.step(seen["goal"])
        is_near = np.linalg.norm(now["position"] - seen["goal"]) < 0.45
        assert (reward, info["is_success"]) == (is_near, is_near)  # also within an action
    assert env.observe()["goal"].tolist() == now["goal"].tolist()


def test_pictures_are_drawn_only_where_they_are_asked_for():
    env = make_env("maze/large", observation=("image",), render_size=240)
    seen, _ = env.reset(seed=0)
    assert set(seen) == {"image"}
    assert seen["image"].shape == env.observation_space["image"].shape == (72, 96, 3)
    assert env.render().shape == (180, 240, 3)
    goal = env.action_pixels(env.goal, 180, 240).astype(int)
    assert env.render()[goal[1], goal[0]].tolist() == [144, 238, 144]


@pytest.mark.parametrize("task", sorted(LAYOUTS))
def test_the_expert_reaches_the_goal_and_stays_there(task):
    from dipole.envs.maze.expert import MazeExpert

    env = make_env(f"maze/{task}")
    expert, ways = MazeExpert(env), []
    for seed in range(3):
        shown = record_episode(env, expert, seed)
        assert shown.success
        assert np.linalg.norm(shown.frames["position"][-1] - shown.frames["goal"][-1]) < 0.1
        assert np.array_equal(shown.frames["action"][0], np.float32(shown.frames["position"][0]))
        ways.append(shown.frames["action"])
    again = record_episode(env, expert, 2)
    assert np.array_equal(again.frames["action"], ways[2]), "a function of the seed"


def test_the_expert_refuses_forces():
    from dipole.envs.maze.expert import MazeExpert

    with pytest.raises(ConfigError, match="control=force"):
        MazeExpert(make_env("maze/umaze", control="force"))
