"""Rate, units and names of the demonstrations stay with the policy, wherever it goes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer

from dipole.data import EpisodeWriter
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.core.files import write_json, write_manifest
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported

ARM = {"units": "deg", "names": ["shoulder", "elbow"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with EpisodeWriter(folder / "a.zarr", fps=50, features={"state": ARM, "action": ARM}) as writer:
        for length in (30, 40, 25):
            joints = np.random.default_rng(length).normal(size=(length, 2)).cumsum(0)
            writer.add_episode({"state": joints, "action": joints})
    make_trainer(folder / "run", folder / "a.zarr", steps=2).fit()
    return folder / "run"


def trained_on(features):
    state, action = features.observation["state"], features.action
    return features.fps, state.units, state.names, action.units, action.names


KNOWN = (50.0, "deg", ("shoulder", "elbow"), "deg", ("shoulder", "elbow"))
UNKNOWN = (None, "", (), "", ())


def test_a_checkpoint_says_what_it_was_trained_on(run):
    said = read_config(checkpoints_of(run)[-1])["features"]
    assert said["fps"] == 50.0
    assert said["action"]["units"] == "deg"
    assert said["observation"]["state"]["names"] == ["shoulder", "elbow"]
    assert trained_on(load_policy(run).features) == KNOWN


def test_a_resumed_run_says_it_too(run):
    make_trainer(run, run.parent / "a.zarr", steps=3).fit()
    assert checkpoints_of(run)[-1].name == "00000003"
    assert trained_on(load_policy(run).features) == KNOWN


@pytest.mark.heavy
def test_an_export_says_it_too(run, tmp_path):
    export_policy(load_policy(run), "onnx", tmp_path / "onnx", batch_sizes=[1])
    assert trained_on(load_exported(tmp_path / "onnx").features) == KNOWN


def test_a_checkpoint_from_before_loads_and_nothing_is_known(run):
    folder = checkpoints_of(run)[0]
    config = json.loads((folder / "config.json").read_text())
    features = config["features"]
    del features["fps"]
    for feature in (features["action"], *features["observation"].values()):
        del feature["units"], feature["names"]
    old = run.parent / "old"
    old.mkdir()
    (old / "ema.safetensors").write_bytes((folder / "ema.safetensors").read_bytes())
    write_json(old / "config.json", config)
    write_manifest(old, {})
    assert trained_on(load_policy(old).features) == UNKNOWN
