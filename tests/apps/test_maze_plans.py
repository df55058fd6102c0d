"""Mazes by the commands: record, train a policy of plans, evaluate it, refuse what it cannot."""

import json

import numpy as np
import pytest
import torch

from dipole.apps.main import main
from dipole.data import ConfigError, EpisodeStore
from dipole.policy import load_policy
from dipole.policy.runtimes.runnable import load_runnable

pytest.importorskip("gymnasium_robotics")
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maze")
    data = ["task=maze/umaze", "expert=scripted", "episodes=3", f"output={folder / 'D.zarr'}"]
    assert main(["record", *data]) == 0
    words = ["policy=unet_plan", "policy.denoiser.down_dims=[8,16]", "train.steps=2"]
    words += ["train.batch_size=4", "train.device=cpu", f"output={folder / 'RUN'}"]
    assert main(["train", "task=maze/umaze", f"dataset={folder / 'D.zarr'}", *words]) == 0
    return folder / "RUN"


def test_demonstrations_hold_what_plans_are_learned_from(run):
    store = EpisodeStore.open(run.parent / "D.zarr")
    assert {"state", "position", "goal", "action"} <= set(store.arrays)
    assert store.n_episodes == 3
    assert store.environment["id"] == "maze/umaze"
    ends = store.episode_ends[:] - 1
    assert np.abs(store["action"][ends] - store["goal"][ends]).max() < 0.01


def test_a_loaded_policy_s_plans_begin_and_end_with_what_it_observes(run):
    policy = load_policy(run)
    seen = {"position": torch.tensor([[[-1.0, 1.0]]]), "goal": torch.tensor([[[1.0, -0.9]]])}
    plan = policy.predict(seen, torch.Generator().manual_seed(0))
    assert plan.shape == (1, 32, 2)
    torch.testing.assert_close(plan[:, [0, -1]], torch.cat([*seen.values()], 1), atol=1e-5, rtol=0)


def test_it_is_evaluated_and_its_plans_are_drawn(run, tmp_path):
    words = [f"checkpoint={run}", "episodes=2", "video_episodes=1", f"output={tmp_path}"]
    assert main(["evaluate", *words]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["score_name"] == "success_rate"
    assert [episode["steps"] for episode in metrics["per_episode"]] == [30, 30]
    assert (tmp_path / "chunks.png").is_file()


def test_the_fastest_runtime_of_a_plan_is_its_own_and_others_are_refused(run):
    assert load_runnable(run, runtime="auto").runtime == "eager"
    with pytest.raises(ConfigError, match="exports cannot"):
        load_runnable(run, runtime="onnx")
