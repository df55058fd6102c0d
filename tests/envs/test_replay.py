"""`dipole data replay`: whether recorded demonstrations still do what they did."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.core.errors import ConfigError, DataError
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import EXPERTS, recorder, replay
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.experts.demonstrate import Demonstrations, DemonstrationSpec
from dipole.envs.experts.replay import Deviation, ReplayedEpisode, ReplaySpec
from dipole.envs.rollout import RolloutError

sys.path.insert(0, str(Path(__file__).parent))
from experts import FEATURES, SPEC, Walk, walking

KEYS = {"place": "robot.place", "goal": "goal"}


@pytest.fixture(autouse=True, scope="module")
def walk():
    with walking():
        yield


@pytest.fixture(scope="module")
def dataset(walk, tmp_path_factory):
    """Three disturbed demonstrations, and a failure."""
    path = tmp_path_factory.mktemp("replay") / "demos.zarr"
    environment = EnvSpec(SPEC.id, {"hard": 4}, SPEC.observation)
    spec = DemonstrationSpec(environment, None, FEATURES, DisturbanceSpec(drift=0.05))
    make = Demonstrations(spec)
    with recorder.begin(path, spec, 10, recorder.described(spec, make.keys)) as writer:
        for seed in (1, 2, 3, 4):
            recorder.add(writer, make(seed))
    return path


def replayed(dataset, **options):
    spec = EnvSpec(SPEC.id, options, SPEC.observation)
    return [*replay.replay(ReplaySpec(dataset, spec, KEYS), range(4))]


def test_executed_actions_lead_where_they_led(dataset):
    made = replayed(dataset, hard=4)
    assert [each.success for each in made] == [True, True, True, False]
    assert [each.seed for each in made] == [1, 2, 3, 4]
    for each in made:
        assert each.deviations == {"place": Deviation(), "goal": Deviation()}
        assert (each.first_frame, each.is_lost, each.executed) == (None, False, each.n_frames)


def test_another_simulator_is_noticed_from_the_first_frame_that_differs(dataset):
    made = replayed(dataset, hard=4, gain=0.9)
    assert [each.is_lost for each in made] == [True, True, True, False]
    store = EpisodeStore.open(dataset)
    first = slice(0, int(store.episode_ends[0]))
    moved = np.abs(np.clip(store["executed_action"][first], -0.2, 0.2)[0]).max()
    place = made[0].deviations["place"]
    assert place.frame == 1
    assert place.largest > 0.05 * moved
    assert made[0].deviations["goal"] == Deviation()


@pytest.mark.parametrize(
    ("success", "recorded", "lost"),
    [(None, True, True), (None, None, False), (False, None, True), (False, False, False)],
)
def test_success_that_was_recorded_has_to_be_told_again(success, recorded, lost):
    assert ReplayedEpisode(0, 1, success, recorded, 9, 9).is_lost is lost


def test_nan_of_a_simulator_deviates_and_has_no_number_in_json(dataset, capsys, monkeypatch):
    observe = Walk.observe

    def broken(self):
        seen = observe(self)
        return {**seen, "goal": self.goal + np.nan} if self.age == 2 else seen

    monkeypatch.setattr(Walk, "observe", broken)
    assert replayed(dataset, hard=4)[0].deviations["goal"] == Deviation(np.inf, 2)
    assert main(["data", "replay", str(dataset), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["episodes"][0]["deviations"]["goal"] == {"largest": None, "frame": 2}


def test_an_exception_of_the_simulator_names_the_episode(dataset, capsys, monkeypatch):
    def broken(self, action):
        raise ZeroDivisionError("no more physics")

    monkeypatch.setattr(Walk, "advance", broken)
    with pytest.raises(RolloutError, match=r"episode 0 \(seed 1\): ZeroDivisionError: no more ph"):
        replayed(dataset)


def test_recorded_settings_are_whole_and_those_of_a_task_are_completed_by_the_expert_s(
    dataset, monkeypatch
):
    expert = dataclasses.replace(EXPERTS["walk"], options={"gain": 0.9})
    monkeypatch.setitem(EXPERTS._table, "walk", expert)
    with EpisodeStore.open(dataset) as store:
        assert replay.recorded_environment(store).options == {"hard": 4}
        other = EnvSpec("walk", {"max_steps": 9})
        assert replay.recorded_environment(store, other).options == {"gain": 0.9, "max_steps": 9}


def test_the_kind_of_actions_is_known_where_other_settings_are_not(dataset):
    with EpisodeStore.open(dataset) as store:
        joined = SimpleNamespace(
            path=dataset, attributes={}, environment={"id": "walk", "actions": "absolute"}
        )
        for given in (None, EnvSpec("walk")):
            found = replay.recorded_environment(joined, given)
            assert found.options == {"actions": "absolute"}
        own = EnvSpec("walk", {"actions": "delta"})
        assert replay.recorded_environment(joined, own) == own
        assert "actions" not in replay.recorded_environment(store).options


def test_an_episode_that_is_over_early_says_when(dataset):
    made = replayed(dataset, max_steps=4)
    assert (made[0].executed, made[0].first_frame, made[0].is_lost) == (4, 4, True)


def test_the_command_compares_in_the_recorded_environment(dataset, capsys):
    assert main(["data", "replay", str(dataset)]) == 0
    said = capsys.readouterr().out
    assert "in walk: 3 of 3 that succeeded still do; 4 of 4 are the same within 0.001" in said


def test_the_exit_code_says_whether_one_is_lost(dataset, capsys, monkeypatch):
    monkeypatch.setattr(Walk.__init__, "__defaults__", ((), None, None, 0.5, True, 30))
    assert main(["data", "replay", str(dataset), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["lost"] == 3
    assert said["episodes"][0]["deviations"]["place"]["frame"] == 1
    assert main(["data", "replay", str(dataset), "--episodes", "0"]) == 1
    assert "0 of 1 that succeeded still do" in capsys.readouterr().out
    assert main(["data", "replay", str(dataset), "--episodes", "3"]) == 0


def test_an_environment_that_is_named_has_the_recorded_settings(dataset):
    with EpisodeStore.open(dataset) as store:
        assert replay.recorded_environment(store, EnvSpec("walk")).options == {"hard": 4}
        other = EnvSpec("walk", {"gain": 0.5})
        assert replay.recorded_environment(store, other) == other


def test_a_dataset_without_seeds_is_told_so(capsys):
    assert main(["data", "replay", "bundled:fork"]) == 1
    assert "have no recorded seeds (meta/seed)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--keys", "plaice"], 1, "did you mean 'place'"),
        (["--episodes", "7"], 2, "no episode 7: there are 4"),
        (["--environment", "wlak"], 2, "did you mean 'walk'"),
        (["--environment", "fork", "--keys", "goal"], 2, "fork has no observation 'goal'"),
        (["--environment", "fork", "--task", "fork"], 2, "exclude each other"),
        (["--config-dir", "."], 2, "give --task NAME too"),
        (["--tolerance", "nan"], 2, "tolerance is nan: a finite number, at least 0, is needed"),
        (["--tolerance", "inf"], 2, "tolerance is inf"),
        (["--tolerance", "-1"], 2, "tolerance is -1.0"),
        (["--workers", "-2"], 2, "--workers -2: it is at least 0"),
    ],
)
def test_what_cannot_be_replayed_is_answered(dataset, words, code, said, capsys):
    assert main(["data", "replay", str(dataset), *words]) == code
    assert said in capsys.readouterr().err


def test_an_episode_that_a_policy_began_cannot_be_replayed(tmp_path):
    frames = {key: np.zeros((1, 3)) for key in ("place", "goal", "action", "executed_action")}
    path = tmp_path / "taken_over.zarr"
    with EpisodeWriter(path) as writer:
        for steps in (0, 12):
            writer.add_episode(frames, numbers={"seed": 1, "prelude_steps": steps})
    with EpisodeStore.open(path) as store:
        replay.check_replayable(store, [0])
        with pytest.raises(DataError, match="episode 1 begins where a policy had got to, 12 steps"):
            replay.check_replayable(store, [0, 1])
        with pytest.raises(ConfigError, match="does not say which simulator"):
            replay.recorded_environment(store)


def test_a_module_that_a_dataset_names_is_not_imported(tmp_path):
    with EpisodeWriter(tmp_path / "d", environment={"id": "gym:reach:Reach-v0"}) as writer:
        writer.add_episode({"action": np.zeros((1, 2))}, numbers={"seed": 1})
    with EpisodeStore.open(tmp_path / "d") as store:
        with pytest.raises(ConfigError, match="--environment gym:reach:Reach-v0"):
            replay.recorded_environment(store)
        assert replay.recorded_environment(store, EnvSpec("gym:reach:Reach-v0")).module == "reach"
