"""Configurations of version 1, whole, in part and damaged: read as they were meant, or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.policy import load_policy
from dipole.policy.checkpoint import read_config
from dipole.policy.checkpoint.migrations import migrated_config, migrated_tensors

FIRST_EDITION = Path(__file__).with_name("first_edition")


def policy_of(**head):
    return {"head": {"name": "diffusion", **head}}


@pytest.fixture
def damaged(tmp_path):
    """A checkpoint of version 1, of which a test may change the configuration."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(FIRST_EDITION / "epsilon_ddim", folder)

    def change(alter):
        config = json.loads((folder / "config.json").read_text())
        alter(config)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return change


def test_a_schedule_becomes_a_process_and_a_prediction():
    schedule = {"name": "linear", "n_steps": 20, "prediction": "v_prediction", "beta_end": 0.1}
    given = policy_of(schedule={**schedule, "clip_sample": False}, counts_padding=False)
    as_given = json.dumps(given)
    assert migrated_config(given, 1) == {
        "head": {"name": "diffusion", "clip_sample": False, "counts_padding": False},
        "process": {
            "name": "vp",
            "schedule": "linear",
            "num_train_timesteps": 20,
            "beta_end": 0.1,
        },
        "prediction": "v",
    }
    assert json.dumps(given) == as_given


@pytest.mark.parametrize("policy", [policy_of(), policy_of(schedule=None), {}])
def test_what_was_left_out_is_what_version_1_took(policy):
    found = migrated_config(policy, 1)
    assert found["process"] == {"name": "vp"}
    assert found["prediction"] == "noise"


def test_without_a_number_ddpm_took_ten_steps_and_not_the_hundred_of_today():
    found = migrated_config(policy_of(solver={"name": "ddpm", "eta": 0.5}), 1)
    assert found["head"]["solver"] == {"name": "ddpm", "steps": 10}
    of_today = policy_of(solver={"name": "ddpm"})
    assert migrated_config(of_today, 2) == of_today


def test_ddim_keeps_its_fresh_noise():
    solver = {"name": "ddim", "steps": 5, "eta": 0.5}
    assert migrated_config(policy_of(solver=solver), 1)["head"]["solver"] == solver


@pytest.mark.parametrize("name", ["regression", "my_own"])
def test_other_heads_stay_as_they_are(name):
    given = {"head": {"name": name, "schedule": "mine"}}
    assert migrated_config(given, 1) == given


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"schedule": 5}, "policy.head.schedule is 5: settings by name"),
        ({"schedule": "cosine"}, "policy.head.schedule is 'cosine'"),
        ({"solver": ["ddim"]}, "policy.head.solver is"),
        ({"schedule": {"prediction": "score"}}, "prediction is 'score'; version 1 knew epsilon"),
        ({"schedule": {"prediction": ["epsilon"]}}, "prediction is"),
        ({"schedule": {"prediction": None}}, "prediction is None"),
    ],
)
def test_what_version_1_did_not_have_is_refused(damaged, head, message):
    with pytest.raises(ConfigError, match=message):
        migrated_config(policy_of(**head), 1)
    folder = damaged(lambda config: config["policy"]["head"].update(head))
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{message}"):
        load_policy(folder)


@pytest.mark.parametrize("version", [3, 0, True, 1.0, "1", None])
def test_other_versions_are_refused(damaged, version):
    folder = damaged(lambda config: config.update(version=version))
    with pytest.raises(CheckpointError, match="reads versions 1 to 2: use the release"):
        read_config(folder)


def test_names_and_axes_of_tensors_are_migrated_once():
    given = {
        "head.alphas": torch.ones(3),
        "head.denoiser.down.0.first.first.0.weight": torch.zeros(5, 2, 8),
        "head.denoiser.up.0.resample.weight": torch.zeros(4, 2, 8),
        "head.denoiser.up.0.first.shortcut.weight/exp_avg": torch.zeros(1, 2, 8),
        "head.denoiser.time_embedding.mlp.0.weight": torch.zeros(2, 8),
        "other.down.0.first.first.0.weight": torch.zeros(5, 2, 8),
    }
    found = {name: list(tensor.shape) for name, tensor in migrated_tensors(given, 1).items()}
    assert found == {
        "head.process.alphas_cumprod": [3],
        "head.denoiser.down.0.first.first.0.weight": [8, 2, 5],
        "head.denoiser.up.0.resample.weight": [2, 8, 4],
        "head.denoiser.up.0.first.shortcut.weight/exp_avg": [8, 2, 1],
        "head.denoiser.time_embedding.mlp.0.weight": [2, 8],
        "other.down.0.first.first.0.weight": [5, 2, 8],
    }
    assert migrated_tensors(given, 2) == given
