"""Robosuite: its tasks, its expert, and the simulator itself where DIPOLE_ROBOSUITE_PYTHON names an
interpreter that has it."""

import ast
import inspect
import os
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.compose.configuration import compose
from dipole.apps.compose.options import read_options
from dipole.data.core.errors import ConfigError
from dipole.data.loading.features import Features
from dipole.envs import ENVIRONMENTS, EnvSpec, make_env
from dipole.envs.experts import find_expert
from dipole.envs.robosuite.expert import ERRANDS, RobosuiteExpert
from dipole.envs.robosuite.family import TASKS
from dipole.envs.rollout import RolloutError

PYTHON = os.environ.get("DIPOLE_ROBOSUITE_PYTHON")


def installed(test):
    """A test that starts the simulator."""
    skips = pytest.mark.skipif(PYTHON is None, reason="DIPOLE_ROBOSUITE_PYTHON is not set")
    return pytest.mark.heavy(skips(test))


def test_without_an_interpreter_it_says_how_to_make_one():
    with pytest.raises(ConfigError, match=r"robosuite==.* 'mujoco<3.9' .*environment\.python="):
        make_env("robosuite/lift")
    with pytest.raises(ConfigError, match=r"no task 'lft', did you mean 'lift'"):
        make_env("robosuite/lft")
    with pytest.raises(ConfigError, match=r"no option 'action', did you mean 'actions'"):
        make_env(EnvSpec("robosuite/lift", options={"action": "delta"}, python="/no/such"))


def test_its_options_are_those_of_the_file_that_makes_it_elsewhere():
    family = ENVIRONMENTS["robosuite"]
    classes = {
        node.name: node
        for node in ast.parse(Path(family.standalone).read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    (init,) = [
        node
        for node in classes["Robosuite"].body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    names = [each.arg for each in init.args.args[1:]]
    defaults = [ast.literal_eval(each) for each in init.args.defaults]
    parameters = inspect.signature(family.build).parameters
    assert list(parameters) == names
    assert [each.default for each in parameters.values()][-len(defaults) :] == defaults


def test_environment_settings_have_one_spelling_in_every_command():
    words = ["task=robosuite/can", "environment.python=/a/python"]
    for command, place in (
        ("train", "++task.environment"),
        ("record", "++task.environment"),
        ("evaluate", "++environment"),
    ):
        found = read_options(words, command).overrides
        assert found == ["task=robosuite/can", f"{place}.python=/a/python"]


class PointHand:
    """Lift without physics: a hand that follows slowly, and a cube that sticks to shut fingers."""

    def __init__(self, actions):
        self.absolute = actions == "absolute"
        self.hand, self.cube = np.array([-0.1, 0.0, 1.0]), np.array([0.02, 0.01, 0.83])
        self.grip = 0.0

    def observe(self):
        down = [1.0, 0.0, 0.0, 0.0]
        return {"state": np.array([*self.hand, *down, 0, 0, *self.cube, 0, 0, 0, 1, 0, 0, 0])}

    def step(self, action):
        goal = action[:3] if self.absolute else self.hand + 0.05 * action[:3]
        before, self.hand = self.hand, self.hand + 0.25 * (goal - self.hand)
        self.grip = np.clip(self.grip + 0.2 * np.sign(action[6]), 0, 1)
        if self.grip == 1 and np.linalg.norm(self.cube - before) < 0.02:
            self.cube = self.cube + self.hand - before


@pytest.mark.parametrize("actions", ["delta", "absolute"])
def test_the_expert_lifts_a_cube_and_its_episode_is_a_function_of_the_seed(actions):
    lengths = []
    for seed in (0, 1, 0):
        expert, world = RobosuiteExpert("lift", actions), PointHand(actions)
        expert.reset(seed)
        for step in range(100):  # noqa: B007
            world.step(expert.act(world.observe()))
            if world.cube[2] > 0.87:
                break
        lengths.append(step)
    assert max(lengths) < 80
    assert lengths[0] == lengths[2] != lengths[1]


def test_an_expert_says_which_tasks_it_knows():
    assert find_expert("scripted", EnvSpec("robosuite/lift")).observation == ("state",)
    with pytest.raises(ConfigError, match=r"robosuite/door.*robosuite/lift, robosuite/stack"):
        RobosuiteExpert("door")


def test_pictures_are_taught_where_the_expert_finds_the_object():
    target = compose("train", ["task=robosuite/image"])["task"]["targets"]["object"]
    proprioception = 9  # of one arm, before `object` in the entry `state`
    for task, columns in (("lift", target["columns"]), ("can", [7, 8, 9])):
        assert proprioception + columns[0] == ERRANDS[task].position
    assert target["source"] == "object"


def looked_at(task):
    said = compose("train", [f"task=robosuite/{task}"])["task"]
    found = Features.from_dict({key: said[key] for key in ("observation", "action")})
    return found, {n: (*each.stored_shape,) for n, each in found.observation.items()}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.heavy
@installed
def test_a_task_s_features_are_what_the_simulator_gives(task):
    features, shapes = looked_at(task)
    made = make_env(EnvSpec(f"robosuite/{task}", python=PYTHON), observation=tuple(shapes))
    try:
        first = made.reset(seed=4)[0]
        assert {name: value.shape for name, value in first.items()} == shapes
        assert made.action_space.shape == features.action.stored_shape
        for _ in range(3):
            made.step(made.hold_action())
        last = made.step(made.action_space.sample())[0]
        made.reset(seed=5)
        again = made.reset(seed=4)[0]
        assert all(np.array_equal(first[name], again[name]) for name in first)
        assert not all(np.array_equal(first[name], last[name]) for name in first)
    finally:
        made.close()


@pytest.mark.parametrize(
    ("task", "actions"), [*((task, "delta") for task in ERRANDS), ("lift", "absolute")]
)
@pytest.mark.heavy
@installed
def test_the_expert_solves_its_tasks(task, actions):
    spec = EnvSpec(f"robosuite/{task}", python=PYTHON, options={"actions": actions})
    made = make_env(spec, observation=("state",))
    expert = find_expert(None, spec).build(made)
    try:
        for seed in (10, 11):
            observation, over = made.reset(seed=seed)[0], False
            expert.reset(seed)
            while not over:
                observation, _, over, truncated, info = made.step(expert.act(observation))
                assert not truncated
            assert info["is_success"]
    finally:
        made.close()


@pytest.mark.heavy
@installed
def test_cameras_are_drawn_when_asked_and_a_stored_state_is_continued_from():
    names = ("agentview", "agentview_depth", "states")
    made = make_env(EnvSpec("robosuite/lift", python=PYTHON), observation=names)
    try:
        first = made.reset(seed=4)[0]
        assert (first["agentview"].shape, first["agentview"].dtype) == ((84, 84, 3), np.uint8)
        assert first["agentview_depth"].shape == (84, 84, 1)
        assert 0.3 < np.median(first["agentview_depth"]) < 1.5  # metres to the table
        made.step(np.ones(7))
        states = made.observe()["states"]
        assert not np.array_equal(states, first["states"])
        continued = made.reset(seed=9, options={"states": states})[0]
        assert np.array_equal(continued["states"], states)
        assert np.ptp(made.render()) > 100
        with pytest.raises(RolloutError, match="no reset options wrong"):
            made.reset(seed=9, options={"wrong": 1})
    finally:
        made.close()
