"""Checkpoints that the first edition wrote are read, give its chunks, and go on training."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.policy import load_policy
from dipole.policy.checkpoint import read_tensors

FIRST_EDITION = Path(__file__).with_name("first_edition")
NAMES = ["epsilon_ddim", "v_ddpm", "sample_eta", "image_tokens"]


def under(prefix, tensors):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_same_chunk_from_the_same_noise(name):
    policy, expected = (
        load_policy(FIRST_EDITION / name),
        load_file(FIRST_EDITION / name / "expected.safetensors"),
    )
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    chunk = policy.predict(under("observation.", expected), generators)
    assert torch.allclose(chunk, expected["chunk"], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_same_loss(name):
    policy, expected = (
        load_policy(FIRST_EDITION / name),
        load_file(FIRST_EDITION / name / "expected.safetensors"),
    )
    batch = under("batch.", expected)
    batch["observation"] = under("observation.", batch)
    torch.manual_seed(3)
    with torch.no_grad():
        loss = float(policy.loss(batch))
    assert loss == pytest.approx(float(expected["loss"]), rel=1e-5)


def test_a_run_of_the_first_edition_goes_on_as_it_would_have(tmp_path):
    begun = "run/checkpoints/00000004"
    shutil.copytree(FIRST_EDITION / begun, tmp_path / begun)
    dataset = write_dataset(tmp_path / "data.zarr")
    trainer = make_trainer(tmp_path / "run", dataset, steps=8, checkpoint_every=4)
    assert trainer.state.step == 4
    trainer.fit()
    ours = read_tensors(tmp_path / "run/checkpoints/00000008", "ema")
    theirs = read_tensors(FIRST_EDITION / "run/checkpoints/00000008", "ema")
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.allclose(ours[key], tensor, atol=1e-6), key
