"""Fused norms: the same outputs and gradients, in the trainer and its threads."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.data import ConfigError
from dipole.policy.denoisers.cpu_unet.compiled import compile_unets, has_compiler
from dipole.policy.denoisers.cpu_unet.norm_mish import NormKernels, group_norm_mish
from dipole.policy.training.hardware.threaded_batch import threaded_batch


def test_a_shift_and_film_are_what_they_are_without_the_norm():
    """Against torch's own GroupNorm and Mish, with all gradients, in double precision."""
    torch.manual_seed(0)
    x, shift = torch.randn(8, 8, 16).double(), torch.randn(16).double()
    norm = nn.GroupNorm(4, 16).double()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(16)), norm.bias.copy_(torch.randn(16))
    scale, offset = (torch.randn(8, 16).double() for _ in range(2))
    for tensor in (x, shift, scale, offset):
        tensor.requires_grad_()
    ours = group_norm_mish(norm, x, shift, (scale, offset))
    turned = F.group_norm((x + shift).permute(1, 2, 0), 4, norm.weight, norm.bias)
    plain = F.mish(turned).permute(2, 0, 1) * scale + offset
    assert torch.allclose(ours, plain, atol=1e-10)
    wanted, towards = torch.randn_like(plain), (x, shift, scale, offset, norm.weight, norm.bias)
    for mine, other in zip(
        torch.autograd.grad(ours, towards, wanted),
        torch.autograd.grad(plain, towards, wanted),
        strict=True,
    ):
        assert torch.allclose(mine, other, atol=1e-9)


@pytest.mark.heavy
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_a_compiled_run_learns_the_same(tmp_path):
    dataset = write_dataset(tmp_path / "walk.zarr")
    trainers = [
        make_trainer(tmp_path / str(on), dataset, compile=on, threads=2, batch_size=32, steps=3)
        for on in (False, True)
    ]
    for trainer in trainers:
        assert trainer.fit() is None
    eager, fused = (dict(trainer.state.policy.named_parameters()) for trainer in trainers)
    for name, parameter in eager.items():
        assert torch.allclose(fused[name], parameter, atol=2e-5), name
    assert trainers[1].state.policy.head.denoiser.fast_path.kernels != NormKernels()


@pytest.mark.heavy
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_compiled_norms_in_threads_of_rows(tmp_path):
    policy = make_trainer(tmp_path, write_dataset(tmp_path / "walk.zarr")).state.policy
    batch = policy.fake_batch(32)

    def gradients():
        policy.zero_grad()
        torch.manual_seed(1)
        with threaded_batch(policy, 2):
            policy.loss(batch).backward()
        return {name: p.grad for name, p in policy.named_parameters()}

    eager = gradients()
    compile_unets(policy)
    for name, gradient in gradients().items():
        assert torch.allclose(gradient, eager[name], atol=1e-5), name


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "walk.zarr")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler.*apt install g\+\+"):
        make_trainer(tmp_path, dataset, compile=True)
