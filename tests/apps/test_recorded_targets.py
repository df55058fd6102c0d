"""What a task's targets are made of is recorded, whoever acts, and policies do not see it."""

import json
import sys
from pathlib import Path

import pytest
import torch

from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.data import EpisodeStore, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import Checkpoint, policy_config, save_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from experts import walking

TASK = {
    "name": "walk_unseen",
    "environment": {"name": "walk", "observation": {"place": "robot.place"}, "max_steps": 20},
    "dataset": None,
    "observation": {"where": {"shape": [1], "source": "place", "columns": [0]}},
    "action": {"shape": [3], "units": "m"},
    "targets": {
        "aim": {"shape": [2], "source": "goal", "columns": [0, 1]},
        "goal": {"shape": [3], "units": "m"},
        "soon": {"shape": [3], "source": "action", "ahead": 2},
    },
    "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
}


@pytest.fixture
def words(tmp_path):
    """Of a recording; the expert's entry alone would not show it the goal."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(json.dumps(TASK))
    asked = ["--config-dir", str(tmp_path), "task=mine", "episodes=2", "keep=all", "minimum=1"]
    with walking(observation=("robot.place",)):
        yield ["record", *asked, f"output={tmp_path / 'r.zarr'}"]


@pytest.fixture
def run(tmp_path):
    """A policy that was never trained, for the task."""
    torch.manual_seed(0)
    features = Features.from_dict({k: TASK[k] for k in ("observation", "action")} | {"fps": 10.0})
    denoiser = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
    policy = Policy(PolicyConfig(denoiser=denoiser), features, WindowSpec(**TASK["window"]))
    trained = {"environment": TASK["environment"], "run": {"task": TASK}}
    trained["objective"] = {"name": "auxiliary", "targets": {"told": {"shape": [3], "source": "t"}}}
    config = policy_config(policy) | trained
    save_checkpoint(tmp_path / "run", Checkpoint(config, {"ema": policy.state_dict()}, {}))
    return tmp_path / "run"


def keys(path):
    return sorted(EpisodeStore.open(path).keys())


@pytest.mark.parametrize("who", ["scripted", "random"])
def test_an_expert_s_dataset_holds_it(words, tmp_path, who):
    assert main([*words, f"expert={who}"]) == 0
    store = EpisodeStore.open(tmp_path / "r.zarr")
    assert sorted(store.keys()) == ["action", "goal", "place"]
    assert store.schema("goal")["units"] == "m"
    assert store["goal"][:].any(axis=1).all()


@pytest.mark.parametrize("who", ["teacher", "takeover"])
def test_so_does_one_in_which_policies_act(words, run, tmp_path, who):
    steps = ["solver=ddim", "solver.steps=1"] if who == "teacher" else ["takeover_steps=2"]
    assert main([*words, f"{who}={run}", *steps]) == 0
    assert {"action", "goal", "place"} <= {*keys(tmp_path / "r.zarr")}


def test_evaluation_keeps_it_and_says_what_the_simulator_has_not(words, run, tmp_path):
    asked = ["episodes=1", "video_episodes=0", "solver=ddim", "solver.steps=1"]
    asked += [f"keep_episodes={tmp_path / 'kept.zarr'}", f"output={tmp_path / 'e'}"]
    with pytest.warns(UserWarning, match=r"target 'told' is made of, 't': .* no 't'; it has "):
        assert main(["evaluate", f"checkpoint={run}", *asked]) == 0
    assert keys(tmp_path / "kept.zarr") == ["action", "goal", "place", "reward"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+task.targets.far.shape=[3]", "target 'far': the simulator has no 'far'; it has "),
        ("task.targets.aim.source=gaol", "has no 'gaol', did you mean 'goal'"),
        ("task.targets.aim.columns=[0,3]", "target 'aim': made of the simulator's 'goal'"),
        ("task.targets.goal.shape=[2]", "target 'goal': shape [2] is needed, and the simulator's"),
        ("+task.targets.aim.kind=image", "target 'aim': "),
        ("task.targets.soon.source=executed_action", "has no 'executed_action'"),
    ],
)
def test_a_target_that_cannot_be_recorded_is_refused_before_anything_is(
    words, tmp_path, capsys, word, said
):
    assert main([*words, word]) != 0
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*.zarr*"))


def test_executed_actions_are_there_where_actions_are_disturbed(words, tmp_path):
    assert main([*words, "task.targets.soon.source=executed_action", "drift=0.01"]) == 0
    assert keys(tmp_path / "r.zarr") == ["action", "executed_action", "goal", "place"]


def test_a_recording_is_gone_on_with_by_the_same_targets_alone(words, tmp_path, capsys):
    words = [*words, "expert=random"]
    assert main(words) == 0
    more = [word for word in words if word != "episodes=2"] + ["episodes=3", "resume=true"]
    assert main([*more, "~task.targets.aim", "~task.targets.goal"]) == 1
    said = capsys.readouterr().err
    assert "was recorded with keys=" in said
    assert "'goal': 'goal'" in said
    assert main(more) == 0
    assert EpisodeStore.open(tmp_path / "r.zarr").n_episodes == 3


def test_without_targets_it_is_what_policies_see_and_the_expert_looks_at(words, tmp_path):
    assert main([*words, "task.targets=null", "expert=random"]) == 0
    assert keys(tmp_path / "r.zarr") == ["action", "place"]


def test_fetch_s_policy_of_pictures_is_told_nothing_of_the_object():
    task = compose("train", ["task=fetch/push_image"])["task"]
    seen = {
        (feature.get("source") or name, tuple(feature.get("columns") or ()))
        for name, feature in task["observation"].items()
    }
    gripper = (0, 1, 2)
    assert seen == {("state", gripper), ("desired_goal", ()), ("external_camera_0", ())}
    assert {one["source"] for one in task["targets"].values()} == {"achieved_goal"}
