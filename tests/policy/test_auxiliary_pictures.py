"""objective=auxiliary: rows and actions that no target is told from, and cameras that lack."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from auxiliary_fixture import AUXILIARY, configuration, silent, tensors, write

from dipole.data import ConfigError, EpisodeWriter
from dipole.policy.training.run import build_run, start_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "arm.zarr")


def test_rows_whose_camera_training_leaves_out_count_for_no_target(dataset):
    objective, batch = dropping(dataset, {"joints": {"cameras": ["front"]}})
    torch.manual_seed(0)
    before = objective(batch).total
    absent = objective.policy.encoder.picture_absent["front"]
    assert 0 < int(absent.sum()) < 6
    batch["target"]["joints"][absent] += 100
    torch.manual_seed(0)
    assert torch.equal(objective(batch).total, before)
    objective.zero_grad()
    before.backward()
    stand_in = objective.policy.encoder.parts["cameras"].missing.vectors["front"]
    assert stand_in.grad is None or not stand_in.grad.any()
    objective.eval()
    objective(batch)
    assert not objective.policy.encoder.picture_absent


def dropping(dataset, targets):
    """The objective of a new run whose training leaves out cameras, without the policy's loss."""
    config = configuration(dataset, {**AUXILIARY, "targets": targets, "policy_weight": 0})
    config["policy"]["encoder"]["camera_dropout"] = 0.5
    parts = build_run(config)
    return parts.state.objective.train(), tensors(parts.data.train.gather(np.arange(6)))


def test_a_target_of_an_action_that_is_stored_as_chunks_is_refused(tmp_path):
    path, rng = tmp_path / "taught.zarr", np.random.default_rng(0)
    with EpisodeWriter(path, fps=10) as writer:
        for _ in range(3):
            writer.add_episode(
                {
                    "joints": rng.uniform(size=(14, 2)).astype(np.float32),
                    "action": rng.uniform(size=(14, 2)).astype(np.float32),
                    "front": rng.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8),
                    "wrist": rng.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8),
                    "teacher_chunk": rng.uniform(size=(14, 7, 2)).astype(np.float32),
                }
            )
    config = configuration(path, {**AUXILIARY, "targets": {"action": {}}})
    config["task"]["action"] |= {"source": "teacher_chunk", "chunks": True}
    with pytest.raises(ConfigError, match=r"target 'action': action is stored as chunks"):
        build_run(config)
    config["objective"]["targets"] = {"action": {"shape": [2], "source": "action"}}
    assert build_run(config).state.objective.targets["action"].feature.source == "action"


@pytest.mark.parametrize("fault", ["pooled", "lacking"])
def test_what_pictures_cannot_do_leaves_no_run_behind(dataset, tmp_path, fault):
    config = configuration(dataset)
    if fault == "pooled":
        config["policy"]["encoder"]["pooling"] = {"name": "pooled"}
    else:
        config["task"]["dataset"] = None
        config["task"]["datasets"] = [
            {"name": "a", "path": str(dataset)},
            {"name": "b", "path": str(dataset), "observation": {"wrist": None}},
        ]
    said = {"pooled": "no pooled output", "lacking": "camera 'wrist' is missing from a dataset"}
    with pytest.raises(ConfigError, match=said[fault]):
        start_run(config, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()
