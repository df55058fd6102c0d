"""What a run says before it begins."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from dipole.data import ConfigError, EpisodeWriter
from dipole.policy.training.output.summary import _recorded_elsewhere
from dipole.policy.training.run import build_run, resume_run


@pytest.mark.parametrize(
    ("recorded", "environment", "said"),
    [
        ("fetch/push", {"name": "fetch/pick-and-place"}, True),
        ("fetch/push", "maze/umaze", True),
        ("fetch/push", {"name": "fetch/push", "options": {}}, False),
        ("fetch/push", None, False),
        ("Unitree_G1", {"name": "fetch/push"}, False),
        ("", {"name": "fetch/push"}, False),
        ("pusht", {"name": "pusht"}, False),
    ],
)
def test_demonstrations_of_another_task_of_a_simulator_are_spoken_of(recorded, environment, said):
    store = SimpleNamespace(path="a.zarr", environment={"id": recorded} if recorded else {})
    lines = _recorded_elsewhere(SimpleNamespace(parts=[SimpleNamespace(store=store)]), environment)
    assert bool(lines) == said
    assert not said or lines[0].startswith("note: a.zarr was recorded in fetch/push, and the task")


@pytest.mark.parametrize(
    ("recorded", "asked", "said"),
    [
        ("absolute", "absolute", ""),
        (None, None, ""),
        (None, "delta", ""),
        ("absolute", "delta", "has absolute actions, and the task's environment takes delta ones"),
        ("absolute", None, "has absolute actions, and the task's environment takes delta ones"),
        (None, "absolute", "has delta actions, and the task's environment takes absolute ones"),
    ],
)
def test_actions_that_mean_something_else_are_spoken_of(recorded, asked, said):
    actions = {} if recorded is None else {"actions": recorded}
    store = SimpleNamespace(path="a.zarr", environment={"id": "fetch/push", **actions})
    environment = {"name": "fetch/push", "options": {} if asked is None else {"actions": asked}}
    lines = _recorded_elsewhere(SimpleNamespace(parts=[SimpleNamespace(store=store)]), environment)
    assert bool(lines) == bool(said)
    assert not said or said in lines[0]


def test_actions_that_are_held_constant_though_they_move_are_noted(tmp_path):
    state = np.random.default_rng(0).normal(size=(30, 2))
    with EpisodeWriter(tmp_path / "a.zarr", fps=10) as writer:
        for _ in range(2):
            writer.add_episode({"state": state, "action": 1e-5 * state})
    task = {
        "name": "mine",
        "observation": {"state": {"shape": [2]}},
        "action": {"shape": [2]},
        "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
    }
    denoiser = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
    train = {"steps": 1, "batch_size": 4, "device": "cpu"}
    config = {"task": task, "dataset": str(tmp_path / "a.zarr"), "train": train}
    parts = build_run({**config, "policy": {"denoiser": denoiser}})
    assert parts.constant == {"action": [0, 1]}
    assert [note[:19] for note in parts.notes] == ["action[0] moves by ", "action[1] moves by "]


def test_a_relative_dataset_that_is_not_found_on_resuming_says_from_where(tmp_path):
    config = {"task": {"dataset": "mine.zarr"}, "dataset": None, "train": {}}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    with pytest.raises(
        ConfigError, match=r"mine\.zarr: .* from which you call.* dataset=PATH says"
    ):
        resume_run(tmp_path)
