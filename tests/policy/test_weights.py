"""Ordinary modules in checkpoints: buffers that are not saved, weights that several share."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import SMALL, make_trainer, write_dataset

from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, read_tensors
from dipole.policy.checkpoint.weights import load_tensors, parameters_without_memory, stored_tensors
from dipole.policy.core.components import DENOISERS
from dipole.policy.denoisers import ConditionalUnet1D


class RotaryUnet(ConditionalUnet1D):
    """With what transformers are made of: a table that no file holds, and tied weights."""

    def __init__(self, action_dim, horizon, context, down_dims, n_groups, time_embed_dim) -> None:
        super().__init__(
            action_dim,
            context.vector_dim,
            down_dims,
            n_groups=n_groups,
            time_embed_dim=time_embed_dim,
        )
        self.register_buffer("table", torch.arange(8.0) + 1, persistent=False)
        self.plain_table = torch.arange(8.0)
        self.into, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.out.weight = self.into.weight

    def _denoise(self, chunk, *conditions):
        prediction = super()._denoise(chunk, *conditions)
        gain = self.out(self.into(self.table[:4] + self.plain_table[4:])).mean()
        return prediction * (1 + gain)


@pytest.fixture
def rotary(monkeypatch):
    monkeypatch.setitem(DENOISERS._table, "rotary", RotaryUnet)
    return {**SMALL, "name": "rotary"}


@pytest.fixture
def trained(tmp_path, rotary, monkeypatch):
    monkeypatch.setattr("training_fixture.SMALL", rotary)
    trainer = make_trainer(tmp_path / "run", write_dataset(tmp_path / "walk.zarr"), steps=4)
    trainer.fit()
    return trainer


def test_a_checkpoint_gives_the_chunks_of_the_policy_that_was_saved(trained):
    loaded = load_policy(trained.run)
    observation, noise = loaded.fake_observation(3), torch.randn(3, 8, 2)
    expected = trained.state.ema.model.predict(observation, noise=noise)
    assert torch.equal(loaded.predict(observation, noise=noise), expected)
    assert loaded.head.denoiser.table.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_tied_weights_are_saved_once_and_are_tied_again(trained):
    names = read_tensors(checkpoints_of(trained.run)[-1], "ema")
    assert "head.denoiser.into.weight" in names
    assert "head.denoiser.out.weight" not in names
    loaded = load_policy(trained.run)
    assert loaded.head.denoiser.out.weight is loaded.head.denoiser.into.weight


def test_a_run_with_tied_weights_resumes(trained, tmp_path):
    again = make_trainer(tmp_path / "run", tmp_path / "walk.zarr", steps=4)
    assert again.state.step == 4
    denoiser = again.state.policy.head.denoiser
    assert denoiser.out.weight is denoiser.into.weight
    assert torch.equal(denoiser.into.weight, trained.state.policy.head.denoiser.into.weight)


def test_tensors_that_share_memory_otherwise_are_stored_apart():
    module, whole = nn.Module(), torch.arange(6.0)
    module.register_buffer("whole", whole)
    module.register_buffer("part", whole[3:])
    stored = stored_tensors(module)
    assert stored["part"].untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()
    load_tensors(module, {"whole": torch.zeros(6), "part": torch.ones(3)})
    assert module.part.tolist() == [1, 1, 1]


def test_only_parameters_are_without_memory_and_only_of_this_thread():
    with parameters_without_memory():
        module = nn.BatchNorm1d(3)
        tied = nn.Linear(2, 2)
        other = nn.Linear(2, 2)
        other.weight = tied.weight
    assert module.weight.is_meta
    assert module.running_var.tolist() == [1, 1, 1]
    assert other.weight is tied.weight
    assert not nn.Linear(2, 2).weight.is_meta
