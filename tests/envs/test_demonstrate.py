"""Demonstrations of any expert: what is recorded of them, in terms of the task."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dipole.apps.commands.record import RecordConfig, _write
from dipole.data import EpisodeStore, Feature, Features
from dipole.data.core.errors import ConfigError, DataError
from dipole.data.recording.record import Demonstration
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import EXPERTS, Expert, find_expert, recorder
from dipole.envs.experts.action_noise import Disturbance, DisturbanceSpec
from dipole.envs.experts.demonstrate import Demonstrations, DemonstrationSpec, demonstrate
from dipole.envs.experts.intervention import PolicyActs
from dipole.envs.experts.keeping import KeepSpec, Tally, kept
from dipole.envs.experts.teaching.acting import ActingPolicy
from dipole.envs.rollout import RolloutError
from dipole.policy.core.threads import torch_threads

sys.path.insert(0, str(Path(__file__).parent))
from experts import FEATURES, SPEC, walking


@pytest.fixture(autouse=True)
def walk():
    with walking():
        yield


def test_recorded_are_the_sources_of_the_task_s_features_by_their_stored_names():
    made = demonstrate(SPEC, 3, features=FEATURES)
    assert sorted(made.frames) == ["action", "goal", "place"]
    assert {str(array.dtype) for array in made.frames.values()} == {"float32"}
    assert made.frames["place"].shape == (len(made), 3)
    moved = made.frames["place"][1] - made.frames["place"][0]
    np.testing.assert_allclose(moved, made.frames["action"][0], atol=1e-6)
    assert made.success


def test_what_the_expert_looks_at_is_recorded_without_a_task():
    made = demonstrate(EnvSpec("walk"), 3)
    assert sorted(made.frames) == ["action", "goal", "robot.place"]


def test_an_entry_that_is_not_there_is_named():
    spec = EnvSpec("walk", observation={"place": "robot.plaice"})
    with pytest.raises(ConfigError, match=r"seed 3: 'place': the simulator has no 'robot\.plaice'"):
        demonstrate(spec, 3, features=FEATURES)


def test_nobody_looks_at_the_state_after_the_last_action():
    make = Demonstrations(DemonstrationSpec(SPEC))
    made = make(3)
    assert make.environment.environment.looks == len(made)


def test_words_of_the_simulator_are_the_episode_s_task():
    text = Features({"instruction": Feature((16,), kind="text")}, FEATURES.action)
    made = demonstrate(SPEC, 3, features=text)
    assert made.words == ((0, "go there"), (2, "now stay"))
    assert "instruction" not in made.frames
    told = demonstrate(replace(SPEC, instruction="off you go"), 3, features=text)
    assert told.words == ((0, "off you go"),)
    assert demonstrate(SPEC, 3).words == ()


def test_an_expert_s_exception_names_the_seed():
    spec = EnvSpec("walk", {"raises": 5})
    with pytest.raises(RolloutError, match="seed 5: ZeroDivisionError: no way is known"):
        demonstrate(spec, 5)


def test_a_time_limit_and_options_are_the_task_s():
    made = demonstrate(EnvSpec("walk", {"hard": 1}, max_steps=7), 3)
    assert (len(made), made.success) == (7, False)


def test_a_gymnasium_id_can_have_an_expert(monkeypatch):
    class Straight:
        def __init__(self, environment):
            pass

        def reset(self, seed):
            pass

        def act(self, observation):
            return 3 * (observation["desired_goal"] - observation["robot"]["pose"])

    monkeypatch.setattr(EXPERTS, "_table", dict(EXPERTS._table))
    name = "gym:reach:Reach-v0"
    EXPERTS.add("straight")(Expert(Straight, name, ("robot.pose", "desired_goal")))
    keys = {"state": "robot.pose", "goal": "desired_goal"}
    made = demonstrate(EnvSpec(name, observation=keys, success="task.success"), 1)
    assert sorted(made.frames) == ["action", "goal", "state"]
    assert made.success
    assert made.frames["action"].max() > 0.1  # as the expert says it; the environment's are clipped


def test_a_disturbance_spares_what_its_scale_says_and_stays_in_the_bounds():
    spec = DisturbanceSpec(drift=0.5, shove=1.0, shove_probability=0.5, scale=(1.0, 0.5, 0.0))
    made = demonstrate(SPEC, 3, spec, features=FEATURES)
    wanted, executed = made.frames["action"], made.frames["executed_action"]
    assert np.array_equal(wanted[:, 2], executed[:, 2])
    assert np.abs(executed[:, 0]).max() == np.float32(0.2)
    assert 0.2 < np.abs(executed[:, 1]).max() <= np.float32(0.3)
    again = demonstrate(SPEC, 3, spec, features=FEATURES)
    np.testing.assert_array_equal(again.frames["executed_action"], executed)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"drift": -1}, "drift is -1"),
        ({"memory": 2}, "memory is 2: it is between 0 and 1"),
        ({"shove_probability": 0.1}, "of no size: give shove=SIZE"),
    ],
)
def test_a_disturbance_that_cannot_be_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        DisturbanceSpec(**values)


def test_a_scale_is_that_of_the_action():
    with pytest.raises(ConfigError, match="scale has 2 numbers, and the action 3"):
        Disturbance(0, DisturbanceSpec(drift=1, scale=(1, 1)))(np.zeros(3, np.float32))


def test_no_expert_is_said_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown environment 'wlak', did you mean 'walk'"):
        find_expert(None, EnvSpec("wlak"))
    with pytest.raises(ConfigError, match=r"unknown environment .* mean 'gym:reach:Reach-v0'\?"):
        find_expert(None, EnvSpec("gm:reach:Reach-v0"))
    EXPERTS.add("misspelt")(Expert(None, "gym:reach:Raech-v0", ()))
    with pytest.raises(ConfigError, match="one for 'gym:reach:Raech-v0': is one of the two missp"):
        find_expert(None, EnvSpec("gym:reach:Reach-v0"))
    with pytest.raises(ConfigError, match="expert 'walk' acts in 'walk', not in 'fork'"):
        find_expert("walk", EnvSpec("fork"))


def shown(*outcomes, frames=20):
    for seed, success in enumerate(outcomes):
        yield Demonstration(seed, {"action": np.zeros((frames, 1))}, success, 0.0)


def test_failures_are_counted_and_kept_only_where_all_are():
    tally = Tally()
    made = kept(shown(True, False, True, True), KeepSpec(2), tally)
    assert [each.seed for each in made] == [0, 2]
    assert tally.describe() == "1 (seed 1) failed, none too short"
    assert tally.steps == 60
    tally = Tally()
    made = [*kept(shown(True, False, None), KeepSpec(None, "all"), tally)]
    assert [each.numbers for each in made] == [
        {"seed": 0, "success": 1},
        {"seed": 1, "success": 0},
        {"seed": 2},
    ]
    tally = Tally()
    assert [*kept(shown(True, frames=3), KeepSpec(minimum=4), tally)] == []
    assert tally.describe() == "none failed, 1 (seed 0) too short"
    assert tally.notes() == [
        "1 episodes are left out because they are short, often those that begin near the goal: "
        "minimum=3 keeps all that succeeded"
    ]


def test_actions_beyond_the_bounds_are_counted():
    tally = Tally(bounds=(np.float32([-0.1]), np.float32([np.inf])))
    tally.count_beyond(np.float32([[-0.1], [-0.11], [9], [0]]))
    assert tally.notes()[0].startswith("25.0% of the actions are beyond the bounds")
    assert Tally().notes() == []


def test_of_several_tasks_the_one_with_the_fewest_is_named():
    tally, tasks = Tally(), ("reach", "push", "reach", "push")
    made = zip(shown(True, True, True, False), tasks, strict=True)
    assert len([*kept((replace(each, task=task) for each, task in made), KeepSpec(), tally)]) == 3
    assert tally.describe().endswith("2 tasks, 1 (push) to 2 of each")


def test_an_expert_that_never_succeeds_is_an_error():
    spec = KeepSpec(max_failures=3)
    with pytest.raises(RolloutError, match=r"3 demonstrations in a row failed .* up to seed 5"):
        [*kept(shown(False, False, True, False, False, False, True), spec, Tally())]


def test_success_that_nobody_tells_is_asked_for():
    with pytest.raises(ConfigError, match=r"task.environment.success, or keep all"):
        [*kept(shown(None), KeepSpec(), Tally())]


def test_what_the_task_says_of_its_numbers_is_in_the_dataset(tmp_path):
    spec = DemonstrationSpec(SPEC, None, FEATURES, DisturbanceSpec(drift=0.01))
    make = Demonstrations(spec)
    with recorder.begin(tmp_path / "d", spec, 10, recorder.described(spec, make.keys)) as writer:
        recorder.add(writer, make(3))
    with EpisodeStore.open(tmp_path / "d") as store:
        assert store.schema("goal")["units"] == "m"
        assert store.schema("place")["units"] == ""  # the task reads one column of it
        for key in ("action", "executed_action"):
            assert store.schema(key)["names"] == ["x", "y", "grip"]
            assert store.schema(key)["kind"] == "action"
        assert store.attributes["recording"]["keys"] == {"place": "robot.place", "goal": "goal"}
        assert store.episode_numbers()["seed"].tolist() == [3]


def test_the_page_s_expert_of_one_s_own_reaches(monkeypatch):
    monkeypatch.setattr(EXPERTS, "_table", dict(EXPERTS._table))
    page = (Path(__file__).parents[2] / "docs/recording.md").read_text()
    code, other = (
        text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "act(" in text
    )
    names = {}
    exec(compile(code + other, "page", "exec"), names)
    damped = names["Damped"](SimpleNamespace(unwrapped=SimpleNamespace(stiffness=2.0)))
    damped.reset(0)
    assert damped.act(np.array([0.5, 0.0])).tolist() == [1.0]
    keys = {"state": "robot.pose", "goal": "desired_goal"}
    spec = EnvSpec("gym:reach:Reach-v0", observation=keys, success="task.success")
    made = [demonstrate(spec, seed) for seed in range(3)]
    assert all(each.success for each in made)
    assert sorted(made[0].frames) == ["action", "goal", "state"]


def test_resuming_with_fewer_episodes_than_there_are_only_finishes_the_dataset(tmp_path):
    path, spec = tmp_path / "d", DemonstrationSpec(SPEC, None, FEATURES)
    make = Demonstrations(spec)
    said = recorder.described(spec, make.keys)
    writer = recorder.begin(path, spec, 10, said)
    for seed in (1, 2):
        recorder.add(writer, make(seed))
    writer.leave()
    settings = RecordConfig(str(path), episodes=1, minimum=100, max_failures=1)
    assert _write(recorder.resumed(path, said), settings, spec, 1, Tally()) == [1, 2]
    assert recorder.finished_episodes(path, said) == 2


@pytest.mark.parametrize("begun", [None, "scripted", "walk"])
@pytest.mark.parametrize("now", [None, "scripted", "walk"])
def test_an_expert_by_its_name_is_the_one_that_the_environment_has(tmp_path, begun, now):
    path, spec = tmp_path / "d", DemonstrationSpec(SPEC, begun, FEATURES)
    make = Demonstrations(spec)
    writer = recorder.begin(path, spec, 10, recorder.described(spec, make.keys))
    recorder.add(writer, make(1))
    writer.leave()
    again = recorder.described(replace(spec, expert=now), make.keys)
    recorder.resumed(path, again).close()
    assert recorder.finished_episodes(path, again) == 1


@pytest.mark.parametrize("begun", [None, "scripted", "walk"])
def test_another_expert_does_not_go_on_with_it(tmp_path, begun):
    path, spec = tmp_path / "d", DemonstrationSpec(SPEC, begun, FEATURES)
    make = Demonstrations(spec)
    with recorder.begin(path, spec, 10, recorder.described(spec, make.keys)) as writer:
        recorder.add(writer, make(1))
    by_hand = recorder.described(replace(spec, expert="mouse"), make.keys)
    with pytest.raises(
        DataError, match="recorded with expert='walk', and now it is expert='mouse'"
    ):
        recorder.finished_episodes(path, by_hand)


def test_a_finished_dataset_of_other_settings_is_not_what_was_asked_for(tmp_path):
    path, spec = tmp_path / "d", DemonstrationSpec(SPEC, None, FEATURES)
    make = Demonstrations(spec)
    said = recorder.described(spec, make.keys, sizes=(1, 2))
    with recorder.begin(path, spec, 10, said) as writer:
        recorder.add(writer, make(1))
    assert recorder.finished_episodes(path, said) == 1
    with pytest.raises(DataError, match="recorded with keep=None, and now it is keep='all'"):
        recorder.finished_episodes(path, {**said, "keep": "all"})


def test_a_policy_that_acts_first_rounds_as_it_does_in_a_worker_process():
    threads = []

    def act(rows):
        threads.append(torch.get_num_threads())
        return np.zeros((1, 3))

    executor = SimpleNamespace(reset=lambda *_: None, observe=lambda *_: None, act=act)
    acting = ActingPolicy(None, SimpleNamespace(observe=lambda seen: seen), executor)
    prelude = PolicyActs(acting, 50, 1)
    with torch_threads(2):
        while prelude({}) is not None:
            pass
        assert torch.get_num_threads() == 2
    assert {*threads} == {1}
