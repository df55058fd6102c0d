"""Environments of gymnasium: any that is registered, observed and judged as the task says."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from dipole.data import EpisodeStore, EpisodeWriter, Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.loading.feature_reader import FeatureReader
from dipole.data.loading.features import TRANSFORMS
from dipole.envs import EnvSpec, evaluate, make_env
from dipole.envs.evaluation import check_scored
from dipole.envs.interface import Interface
from dipole.envs.media.video import RUNNING
from dipole.envs.registry import stored_names
from dipole.envs.rollout import Command, LocalSlots, RolloutError
from dipole.envs.training_score import training_score
from dipole.envs.wrapped import advancing

sys.path.insert(0, str(Path(__file__).parent))  # worker processes find the module the same way
from tiny_simulator import ShySimulator, TinySimulator

MUJOCO = importlib.util.find_spec("mujoco") is not None


class Feedback:
    """Actions are linear in what is observed, with noise of each row's own."""

    window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
    device = torch.device("cpu")

    def __init__(self, observation, actions, fps=None, gain=1.0):
        self.features = Features(observation, Feature((actions,), kind="action"), fps)
        self.actions, self.gain = actions, gain

    def predict(self, observation, generator=None):
        seen = torch.cat([value.flatten(2) for value in observation.values()], -1)[:, -1]
        drive = self.gain * torch.tanh(seen.sum(-1))[:, None, None]
        noise = [torch.randn(8, self.actions, generator=each) for each in generator]
        return drive + torch.stack(noise)


def state(size, **more):
    return {"state": Feature((size,), **more)}


def run(policy, environment, **more):
    return evaluate(policy, environment, episodes=3, seed=5, **more)


@pytest.mark.parametrize(
    ("name", "size", "steps"), [("Pendulum-v1", 3, 200), ("MountainCarContinuous-v0", 2, 999)]
)
def test_a_box_observation_is_the_key_state_and_the_return_decides(name, size, steps):
    result = run(Feedback(state(size), 1), f"gym:{name}")
    metrics = result.metrics
    assert [episode.steps for episode in result.episodes] == [steps] * 3
    assert (metrics["success_rate"], metrics["score_name"]) == (None, "return_mean")
    assert metrics["score"] == np.mean([episode.episode_return for episode in result.episodes])
    assert metrics["environment"]["id"] == f"gym:{name}"
    assert metrics["environment"]["version"] == f"gymnasium {gymnasium.__version__}"
    json.dumps(metrics, allow_nan=False)


def test_worker_processes_change_no_episode_of_any_environment():
    policy = Feedback(state(3), 1)
    spec = EnvSpec("gym:Pendulum-v1", max_steps=30)
    assert run(policy, spec, workers=2).episodes == run(policy, spec, n_envs=1).episodes


@pytest.mark.skipif(not MUJOCO, reason="mujoco is not installed")
@pytest.mark.parametrize(
    ("name", "size", "actions", "fps"), [("Pusher-v5", 23, 7, 20.0), ("Reacher-v5", 10, 2, 50.0)]
)
def test_mujoco_s_environments_are_evaluated_at_their_rate(name, size, actions, fps):
    spec = EnvSpec(f"gym:{name}", max_steps=20)
    result = run(Feedback(state(size), actions, fps=fps), spec)
    assert [episode.steps for episode in result.episodes] == [20] * 3
    assert result.metrics["score_name"] == "return_mean"
    version = result.metrics["environment"]["version"]
    assert version.startswith(f"gymnasium {gymnasium.__version__}, mujoco ")
    with pytest.raises(ConfigError, match=f"{fps:g} steps a second"):
        run(Feedback(state(size), actions, fps=10.0), spec)


def test_what_has_to_be_installed_is_said(monkeypatch):
    for name in [each for each in sys.modules if each.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)  # as if it were not there
    with pytest.raises(ConfigError, match=r"gym:Pusher-v5.*gymnasium\[mujoco\]"):
        run(Feedback(state(23), 7), "gym:Pusher-v5")


def test_what_an_environment_raises_when_it_is_made_names_it(tmp_path, monkeypatch):
    (tmp_path / "no_library.py").write_text("raise ImportError('libGL.so.1 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    said = r"'gym:no_library:X-v0' raised ImportError when it was made: libGL.so.1 is missing"
    with pytest.raises(RolloutError, match=said):
        run(Feedback(state(3), 1), "gym:no_library:X-v0")


def test_discrete_actions_are_refused_by_name():
    said = r"'gym:CartPole-v1' takes actions of Discrete\(2\).*ActionWrapper"
    with pytest.raises(ConfigError, match=said):
        run(Feedback(state(4), 1), "gym:CartPole-v1")


def test_actions_of_another_size_are_refused():
    with pytest.raises(ConfigError, match=r"actions of shape \[1\], and the policy's have \[2\]"):
        run(Feedback(state(3), 2), "gym:Pendulum-v1")


def test_the_time_limit_is_the_task_s():
    policy = Feedback(state(3), 1)
    for limit in (7, 230):  # the registered one is 200
        episodes = run(policy, EnvSpec("gym:Pendulum-v1", max_steps=limit)).episodes
        assert {episode.steps for episode in episodes} == {limit}


def test_the_rate_is_that_of_a_step_and_not_of_its_pictures():
    policy = Feedback(state(3), 1, fps=20.0)  # a step takes 0.05 s, and pictures are shown at 30 Hz
    assert run(policy, EnvSpec("gym:Pendulum-v1", max_steps=4)).fps == 20.0
    with pytest.raises(ConfigError, match=r"30 actions a second, and the simulator makes 20"):
        run(Feedback(state(3), 1, fps=30.0), "gym:Pendulum-v1")
    own = EnvSpec("gym:Pendulum-v1", max_steps=4, fps=30.0)
    assert run(Feedback(state(3), 1, fps=30.0), own).fps == 30.0


REACH = EnvSpec(
    "gym:reach:Reach-v0",
    observation={"state": "robot.pose", "goal": "desired_goal"},
    success="task.success",
)
SEEN = {"state": Feature((2,)), "goal": Feature((2,))}


def test_nested_observations_and_success_are_found_where_the_task_says():
    result = run(Feedback(SEEN, 2, gain=0.0), REACH)
    assert result.metrics["score_name"] == "success_rate"
    assert all(episode.success == (episode.steps < 40) for episode in result.episodes)
    there = EnvSpec.read({**REACH.to_dict(), "options": {"near": 9.0}})
    assert [episode.steps for episode in run(Feedback(SEEN, 2), there).episodes] == [1] * 3
    assert run(Feedback(SEEN, 2), there).metrics["score"] == 1.0


def test_success_that_is_not_there_is_an_error_that_says_what_is():
    wrong = EnvSpec.read({**REACH.to_dict(), "success": "is_solved", "max_steps": 3})
    with pytest.raises(ConfigError, match=r"episode 0 \(seed 5\).*'is_solved'.*the last has task"):
        run(Feedback(SEEN, 2), wrong)


def test_an_observation_that_is_not_there_is_an_error_that_says_what_is():
    bare = EnvSpec("gym:reach:Reach-v0")
    with pytest.raises(
        ConfigError, match=r"'state': the simulator has no 'state'.*robot, desired_goal"
    ):
        run(Feedback(SEEN, 2), bare)


def test_an_observation_of_another_shape_is_an_error_that_says_both():
    wide = {"state": Feature((3,)), "goal": Feature((2,))}
    with pytest.raises(ConfigError, match=r"'state': shape \[3\] is needed.*gives \[2\]"):
        run(Feedback(wide, 2), REACH)


def test_reset_takes_the_task_s_options():
    far = EnvSpec.read({**REACH.to_dict(), "reset": {"goal": [50.0, 0.0]}})
    assert run(Feedback(SEEN, 2), far).episodes[0].max_reward < -40


def test_actions_are_clipped_to_the_space_of_a_gymnasium_id():
    assert run(Feedback(SEEN, 2, gain=100.0), REACH).episodes[0].steps <= 40  # Reach refuses others


def test_columns_and_transforms_run_on_what_is_observed():
    seen = {"cosine": Feature((1,), source="state", columns=(0,)), "doubled": Feature((3,))}
    seen["doubled"] = Feature((3,), source="state", transform="twice_for_tests")
    shown = []
    policy = Feedback(seen, 1)
    predict = policy.predict
    policy.predict = lambda o, generator: (shown.append(o), predict(o, generator))[1]
    run(policy, EnvSpec("gym:Pendulum-v1", max_steps=2), n_envs=1)
    first, _ = gymnasium.make("Pendulum-v1").reset(seed=5)
    assert shown[0]["cosine"][0, 0].tolist() == first[:1].tolist()
    assert shown[0]["doubled"][0, 0].tolist() == (2 * first).tolist()


@TRANSFORMS.add("twice_for_tests")
def twice(frames):
    return 2 * frames


def test_live_observations_are_what_stored_frames_are(tmp_path):
    frames = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    with EpisodeWriter(tmp_path / "a.zarr", fps=10) as writer:
        writer.add_episode({"state": frames, "action": frames[:, :2], "depth": frames[:, 0]})
    store = EpisodeStore.open(tmp_path / "a.zarr")
    observation = {
        "keypoint": Feature((9, 2), source="state", transform="pusht_keypoints"),
        "picked": Feature((2,), source="state", columns=(3, 1)),
        "depth": Feature((1,)),
    }
    features = Features(observation, Feature((2,), kind="action"))
    interface = Interface.of(features, EnvSpec("mine"), {})
    for number in range(20):
        live = interface.observe({"state": frames[number], "depth": frames[number, 0]})
        for name, feature in observation.items():
            stored = FeatureReader(store, name, feature).read(number, number + 1)[0]
            assert live[name].dtype == stored.dtype
            np.testing.assert_array_equal(live[name], stored)


def test_push_t_s_features_are_those_that_it_computes_itself_to_the_last_bit():
    pytest.importorskip("gym_pusht")
    observation = {
        "keypoint": Feature((9, 2), source="state", transform="pusht_keypoints"),
        "agent_pos": Feature((2,), source="state", columns=(0, 1)),
        "state": Feature((5,)),
        "image": Feature((96, 96, 3), kind="image", source="img"),
    }
    features = Features(observation, Feature((2,), kind="action"))
    spec = EnvSpec("pusht")
    interface = Interface.of(features, spec, stored_names(spec))
    env = make_env(spec, observation=(*interface.entries, "keypoint", "agent_pos", "state"))
    seen, _ = env.reset(seed=3)
    random = np.random.default_rng(0)
    rounded = []
    for _ in range(60):
        live = interface.observe(seen)
        for name in ("keypoint", "agent_pos", "state"):
            assert live[name].dtype == np.float32
            np.testing.assert_array_equal(live[name], seen[name])
        np.testing.assert_array_equal(live["image"], seen["image"])
        of_float32 = TRANSFORMS["pusht_keypoints"](seen["state"][None])[0]
        rounded.append((of_float32 != live["keypoint"]).any())
        seen, *_ = env.step(random.uniform(100, 400, 2))
    assert any(rounded)  # made of the rounded state they would be others


class Odd(TinySimulator):
    """seen: what it gives from its second step on."""

    seen = None

    def _look(self):
        first = self.age < 2
        return super()._look() if first else {"position": self.seen}


@pytest.mark.parametrize(
    ("seen", "error", "said"),
    [
        (np.zeros(3, np.float32), ConfigError, r"shape \[2\] is needed.*\[3\]"),
        (np.array(["a", "b"]), ConfigError, "numbers are needed"),
    ],
)
def test_a_wrong_observation_names_the_episode(seen, error, said, monkeypatch):
    monkeypatch.setattr(Odd, "seen", seen)
    policy = Feedback({"position": Feature((2,))}, 2)
    with pytest.raises(error, match=rf"(?s)episode 0 \(seed 5\).*{said}"):
        evaluate(policy, Odd, episodes=2, seed=5, n_envs=1)


class Wrapped(gymnasium.Wrapper):
    """A wrapper that changes what a step is."""


def test_an_environment_beneath_gymnasium_s_wrappers_is_not_looked_at_in_vain():
    inner = ShySimulator()
    limited = gymnasium.wrappers.TimeLimit(gymnasium.wrappers.OrderEnforcing(inner), 5)
    assert advancing(limited) == (inner, 5)
    assert advancing(Wrapped(limited)) == (None, None)
    slots = LocalSlots(lambda: limited, n_obs_steps=1)
    slots.send(Command(slot=0, episode=0, seed=4))
    slots.send(Command(slot=0, episode=0, seed=4, actions=np.zeros((3, 2))))
    slots.send(Command(slot=0, episode=0, seed=4, actions=np.zeros((3, 2))))
    _, second, third = slots.collect()
    assert (len(second.rewards), second.done, len(third.rewards), third.done) == (3, False, 2, True)
    assert inner.looks == 1 + 1


def test_a_simulator_without_pictures_is_evaluated_without_a_video(monkeypatch):
    entry = importlib.import_module("reach").Reach
    monkeypatch.setattr(entry, "metadata", {"render_modes": [], "render_fps": 10})
    with pytest.warns(UserWarning, match="Reach-v0 cannot be drawn, so there is no video"):
        result = run(Feedback(SEEN, 2), REACH, video_episodes=2)
    assert (result.recordings, result.video) == ([], None)


def test_a_gymnasium_environment_is_filmed(tmp_path):
    pytest.importorskip("pygame")
    spec = EnvSpec("gym:Pendulum-v1", max_steps=3)
    result = run(Feedback(state(3), 1), spec, video_episodes=2)
    assert [len(recording.frames) for recording in result.recordings] == [4, 4]
    border = result.recordings[0].tile(3)[0, 0]
    assert tuple(border) == RUNNING  # neither solved nor failed: there is no success
    written = [path.name for path in result.save(tmp_path)]
    assert written == [
        "metrics.json",
        "episodes.csv",
        "episodes.mp4",
    ]  # no picture: its actions have no place


def test_success_alone_decides_where_a_task_says_so_and_it_is_not_known():
    spec = EnvSpec("gym:Pendulum-v1", max_steps=2, score="success_rate")
    found = run(Feedback(state(3), 1), spec)
    assert (found.metrics["score"], found.metrics["score_name"]) == (None, "success_rate")
    assert found.metrics["return_mean"] < 0  # nothing that was measured is lost
    with pytest.raises(ConfigError, match="no episode's info said whether it succeeded"):
        check_scored(found.metrics)


def test_a_training_is_not_scored_by_something_else_where_success_is_not_known():
    spec = {"name": "gym:Pendulum-v1", "max_steps": 2, "score": "success_rate"}
    task = {"name": "mine", "environment": spec}
    train = {"evaluate_every": 1}
    score = training_score({"task": task, "train": train, "evaluate": {"episodes": 2}})
    with pytest.raises(ConfigError, match="no episode's info said whether it succeeded"):
        score(Feedback(state(3), 1))


def test_a_camera_that_may_be_missing_may_be_missing():
    features = Features(
        {"state": Feature((3,)), "front": Feature((8, 8, 3), kind="image")},
        Feature((1,), kind="action"),
    )
    interface = Interface.of(features, EnvSpec("gym:Pendulum-v1"), {}, optional=("front",))
    assert list(interface.observe(np.zeros(3))) == ["state"]
    with pytest.raises(ConfigError, match="pictures are uint8"):
        interface.observe({"state": np.zeros(3), "front": np.zeros((8, 8, 3))})


def test_an_episode_that_nothing_ends_is_an_error(monkeypatch):
    monkeypatch.setattr("dipole.envs.rollout.stepping.MOST_STEPS", 50)
    with pytest.raises(ConfigError, match=r"gone on for 50 steps.*set environment.max_steps"):
        run(Feedback(state(3), 1), "gym:Pendulum-v1")


def test_a_longer_limit_that_the_task_sets_holds(monkeypatch):
    monkeypatch.setattr("dipole.envs.rollout.stepping.MOST_STEPS", 50)
    episodes = run(Feedback(state(3), 1), EnvSpec("gym:Pendulum-v1", max_steps=60)).episodes
    assert [episode.steps for episode in episodes] == [60] * 3


class Leaves(TinySimulator):
    def _move(self, action):
        sys.exit(3)


def test_a_simulator_that_exits_names_the_episode():
    said = r"episode 0 \(seed 5\): the simulator raised SystemExit: 3"
    with pytest.raises(RolloutError, match=said):
        run(Feedback({"position": Feature((2,))}, 2), Leaves)


def test_what_is_observed_is_a_copy_of_what_the_simulator_may_use_again():
    own = np.ones(3, np.float32)
    for interface in (
        Interface.of(Features(state(3), Feature((1,), kind="action")), EnvSpec("gym:X-v0"), {}),
        Interface.of(SimpleNamespace(observation={"state": None}), EnvSpec("gym:X-v0"), {}),
    ):
        seen = interface.observe(own)["state"]
        own[:] = 2
        assert seen.tolist() == [1, 1, 1]
        own[:] = 1


def test_a_success_of_several_is_one_of_any():
    interface = Interface(success="goals.reached")
    assert interface.succeeded({"goals": {"reached": np.array([False, True])}}) is True
    assert interface.succeeded({"goals": {"reached": np.array([False, False])}}) is False
    assert interface.succeeded({"goals": {}}) is None
