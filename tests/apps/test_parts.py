"""A policy of two datasets with ranges of their own: `part=` says which one a robot is like."""

import json

import numpy as np
import pytest
import torch

from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.data import ConfigError, EpisodeWriter
from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.server.load import load_served
from dipole.policy.checkpoint import load_policy
from dipole.policy.runtimes.runnable import load_runnable

TASK = """
name: pushes
environment: {{name: pusht, options: {{}}}}
normalizer: per_part
observation: {{agent_pos: {{shape: [2], source: state, columns: [0, 1]}}}}
action: {{shape: [2]}}
window: {{n_obs_steps: 2, horizon: 16, n_action_steps: 8}}
split: {{val_ratio: 0.0, seed: 1, max_train: null}}
datasets: {{near: {{path: {folder}/near.zarr}}, far: {{path: {folder}/far.zarr}}}}
"""
WORDS = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
WORDS += ["train.steps=1", "train.batch_size=8", "train.device=cpu", "train.amp=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Actions from 0 to 100 in "near", from 300 to 500 in "far"."""
    folder = tmp_path_factory.mktemp("parts")
    for name, low, high in (("near", 0, 100), ("far", 300, 500)):
        path = np.linspace(low, high, 40, dtype=np.float32)[:, None].repeat(2, 1)
        with EpisodeWriter(folder / f"{name}.zarr", fps=10.0) as writer:
            for _ in range(2):
                writer.add_episode({"state": path, "action": path})
    (folder / "task").mkdir()
    (folder / "task/pushes.yaml").write_text(TASK.format(folder=folder))
    output = folder / "run"
    words = ["--config-dir", str(folder), "task=pushes", f"output={output}", *WORDS]
    assert main(["train", *words]) == 0
    return output


def actions(low):
    """The lowest action of a part, as the network's -1."""
    return [pytest.approx(low, abs=0.01)] * 2


@pytest.mark.parametrize(("part", "low"), [("near", 0.0), ("far", 300.0)])
def test_a_served_or_deployed_policy_takes_and_gives_a_part_s_numbers(run, part, low):
    words = [f"checkpoint={run}", f"part={part}", "runtime=eager", "device=cpu"]
    for command in ("serve", "deploy"):
        terms = FromCheckpoint.from_dict(compose(command, words))
        assert terms.part == part
    _, compute = terms()
    lowest = compute.policy.unnormalize_action(torch.full((1, 16, 2), -1.0))[0, 0]
    assert lowest.tolist() == actions(low)
    chunk = compute(WARM_UP, {"agent_pos": np.full((2, 2), low, np.float32)})["action"]
    assert chunk.shape == (16, 2)
    assert load_served(terms, 0.5).schema.spec.action_size == 2


def test_an_evaluation_says_of_which_part_it_is(run, tmp_path):
    words = [f"checkpoint={run}", "episodes=1", "video_episodes=0", "runtime=eager"]
    assert main(["evaluate", *words, "part=near", f"output={tmp_path}"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["part"] == "near"


@pytest.mark.parametrize("command", ["evaluate", "export", "serve"])
def test_without_a_part_the_names_are_listed(run, command, tmp_path, capsys):
    words = [f"checkpoint={run}"]
    words += [f"output={tmp_path / 'out'}"] if command != "serve" else ["port=0"]
    assert main([command, *words]) == 2
    error = capsys.readouterr().err
    assert "say which one the robot is like by part=NAME; there are near, far" in error


def test_an_export_is_for_one_part(run, tmp_path):
    output = tmp_path / "far"
    words = [f"checkpoint={run}", "part=far", "to=onnx", "solver=ddim", "solver.steps=2"]
    assert main(["export", *words, f"output={output}"]) == 0
    assert json.loads((output / "schema.json").read_text())["source"]["part"] == "far"
    observation = {"agent_pos": torch.full((1, 2, 2), 400.0)}
    policy = load_policy(run, part="far")
    exported = load_runnable(output, part="far")
    drawn = exported.predict(observation, [torch.Generator().manual_seed(0)])
    assert drawn.shape == (1, 16, 2)
    assert float(drawn.min()) >= 299.0
    assert policy.predict(observation).shape == drawn.shape
    with pytest.raises(ConfigError, match="the export's numbers are those of far; export"):
        load_runnable(output, part="near")
