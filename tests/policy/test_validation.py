"""The loss on held-out episodes, by which runs are compared."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_policy import SMALL
from training_fixture import write_dataset

from dipole.policy.training.loop import Trainer
from dipole.policy.training.run import start_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


def configuration(dataset, **train):
    task = {
        "name": "walk",
        "dataset": str(dataset),
        "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
        "observation": {"state": {"shape": [3], "kind": "state", "source": "state"}},
        "action": {"shape": [2], "kind": "action"},
        "split": {"val_ratio": 0.34, "seed": 0},
    }
    return {
        "task": task,
        "dataset": None,
        "policy": {"denoiser": SMALL},
        "train": {"steps": 1, "device": "cpu", **train},
        "evaluate": {},
    }


def test_the_same_weights_have_the_same_loss_whatever_seed_and_batch_size_they_have(
    tmp_path, dataset, monkeypatch
):
    trainers = []

    def noted(trainer):
        trainers.append(trainer)

    monkeypatch.setattr(Trainer, "fit", noted)
    for seed, batch_size in ((42, 8), (7, 8), (42, 3)):
        config = configuration(dataset, seed=seed, batch_size=batch_size)
        start_run(config, tmp_path / f"{seed}_{batch_size}", say=lambda _: None)
    objective = trainers[0].state.objective  # one network, validated as each of the runs does
    losses = [trainer.validation.losses(objective)["loss"] for trainer in trainers]
    assert losses[0] == losses[1] == losses[2]
