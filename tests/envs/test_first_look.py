"""What does not fit is said before an evaluation or a recording begins, and names what to mend."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.spaces import Dict as Entries

from dipole.data import Feature, Features
from dipole.data.core.errors import ConfigError, DataError
from dipole.data.recording.record import Frames
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import EXPERTS, Expert, find_expert
from dipole.envs.experts.checked import CheckedExpert, checked_action
from dipole.envs.experts.demonstrate import DemonstrationSpec
from dipole.envs.experts.first_look import first_look
from dipole.envs.interface import Interface
from dipole.envs.registry import ENVIRONMENTS, Environment
from dipole.envs.rollout import RolloutError
from dipole.envs.rollout.first_look import observed
from dipole.envs.rollout.spaces import check_observation


class Spring(gymnasium.Env):
    """One array of 6 numbers, two actions. seen: What it gives instead."""

    metadata = {"render_fps": 10}  # noqa: RUF012
    observation_space = Box(-9, 9, (6,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)
    stiffness = 3.0

    def __init__(self, seen=None):
        self.seen = np.zeros(6) if seen is None else seen

    def reset(self, *, seed=None, options=None):
        return self.seen, {}


class Still:
    """Returns the action that it is made for."""

    def __init__(self, action):
        self.action = action

    def reset(self, seed):
        pass

    def act(self, observation):
        return self.action


@pytest.fixture
def look(monkeypatch):
    """A first look at a recording in Spring."""
    for registry in (ENVIRONMENTS, EXPERTS):
        monkeypatch.setattr(registry, "_table", dict(registry._table))

    def looked(action=(0.0, 0.0), seen=None, state=(6,), shape=(2,), build=None):
        ENVIRONMENTS._table["spring"] = Environment(lambda: Spring(seen), distribution="numpy")
        build = build or (lambda environment: Still(action))
        EXPERTS._table["hooke"] = Expert(build, "spring", ("state",))
        features = Features({"state": Feature(state)}, Feature(shape, kind="action"))
        spec = DemonstrationSpec(EnvSpec("spring"), None, features)
        return first_look(spec, 3)

    return looked


def test_what_fits_gives_rate_and_bounds(look):
    found = look()
    assert found.fps == 10
    assert [bound.tolist() for bound in found.bounds] == [[-1, -1], [1, 1]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"state": (5,)}, r"shape \[5\] is needed, and the simulator's 'state', of shape \[6\]"),
        (
            {"shape": (3,)},
            r"takes actions of shape \[2\], and the task's have \[3\]: give task.act",
        ),
        (
            {"seen": np.zeros(4)},
            r"'state' is float64 of shape \[4\], and .* float32 of shape \[6\]",
        ),
        ({"seen": np.zeros(6, int)}, r"'state' is int64 .* observation_space says float32"),
        ({"seen": [0.0] * 6}, "the observation is a list, not a dict of named arrays: .*numpy"),
        ({"action": None}, r"3: the expert 'hooke' returned None: `act` .* numbers of shape \[2\]"),
        ({"action": [[0, 0]]}, r"returned an action of shape \[1, 2\]: .* of shape \[2\]"),
        ({"action": 0.5}, r"returned an action of shape \[\]: `act` has to return"),
        ({"action": "left"}, "returned a str that is no array"),
        ({"action": [0, np.nan]}, r"'hooke' returned an action that is not finite: \[0.0, nan\]"),
        ({"build": lambda environment: object()}, "the expert 'hooke' has no reset"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_recorded(look, given, said):
    with pytest.raises(ConfigError, match=said):
        look(**given)


def only_state(observation=("state",)):
    """Spring, which says what it has not when it is made."""
    for entry in observation:
        if entry != "state":
            raise ConfigError(f"spring has no observation {entry!r}. Known: state")
    return Spring()


def test_a_target_that_an_environment_is_not_made_with_is_named(monkeypatch):
    for registry in (ENVIRONMENTS, EXPERTS):
        monkeypatch.setattr(registry, "_table", dict(registry._table))
    ENVIRONMENTS._table["spring"] = Environment(only_state, distribution="numpy")
    EXPERTS._table["hooke"] = Expert(lambda _: Still((0.0, 0.0)), "spring", ("state",))
    features = Features({"state": Feature((6,))}, Feature((2,), kind="action"))
    spec = DemonstrationSpec(EnvSpec("spring"), None, features)
    targets = {"tip": Feature((2,), source="state", columns=(0, 1))}
    assert first_look(replace(spec, targets=targets), 3).fps == 10
    with pytest.raises(ConfigError, match=r"'tip' is made of 'end': spring .* Known: state\. S"):
        first_look(replace(spec, targets={"tip": Feature((2,), source="end")}), 3)
    elsewhere = EnvSpec("spring", observation={"state": "ends"})  # what policies see is not there
    with pytest.raises(ConfigError, match=r"^spring has no observation 'ends'"):
        first_look(replace(spec, environment=elsewhere, targets=targets), 3)


def test_an_expert_that_cannot_be_made_is_told_where_the_environment_s_own_is():
    wrapped = gymnasium.wrappers.TimeLimit(Spring(), 5)
    expert = Expert(lambda environment: environment.stiffness, "spring", ("state",))
    with pytest.raises(RolloutError, match=r"attributes are at environment\.unwrapped\.stiffness"):
        CheckedExpert.of(expert, wrapped, None)


def test_an_action_is_stored_as_float32():
    assert checked_action([0, 1], "it", None).dtype == np.float32


def test_an_expert_s_entries_are_a_tuple():
    with pytest.raises(ConfigError, match=r"'spring' is 'state': .* \('state',\) with a comma"):
        Expert(Still, "spring", "state")


def test_an_expert_keeps_success_or_all():
    with pytest.raises(ConfigError, match=r"keep='some' of an expert in 'spring': .* or all"):
        Expert(Still, "spring", ("state",), keep="some")


def test_a_module_that_cannot_be_imported_is_told_where(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sprung.py").write_text(
        "from dipole.envs.experts import Expert\nExpert(dict, 'gym:sprung:S-v0')\n"
    )
    with pytest.raises(ConfigError, match=r"TypeError: .*'observation' \(.*sprung\.py, line 2\)"):
        find_expert(None, EnvSpec("gym:sprung:S-v0"))


def test_an_entry_that_a_task_names_is_not_replaced_by_another():
    features = Features({"state": Feature((6,))}, Feature((2,), kind="action"))
    interface = Interface.of(features, EnvSpec("spring"), {"state": "robot"})
    with pytest.raises(ConfigError, match=r"no 'robot'; it has state\. .*: \{state: ENTRY\}"):
        observed("spring", Spring(), interface, interface.entries, 0)


def test_a_nested_observation_is_compared_with_its_space():
    space = Entries({"robot": Entries({"pose": Box(-1, 1, (2,))})})
    check_observation(space, {"robot": {"pose": np.zeros(2)}}, ["robot.pose", "other"])
    with pytest.raises(ConfigError, match=r"'robot\.pose' is float64 of shape \[3\]"):
        check_observation(space, {"robot": {"pose": np.zeros(3)}}, ["robot.pose"])


def test_frames_of_an_episode_are_alike():
    frames = Frames()
    frames.add({"state": np.zeros(2, np.float32)})
    with pytest.raises(DataError, match=r"'state': frame 1 is int64 .*, and the first one float32"):
        frames.add({"state": np.zeros(2, int)})
