"""Networks and policies in bf16, half and double precision."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, WINDOW, features, make_policy

from dipole.data import Feature, Features, Statistics
from dipole.policy import Policy, PolicyConfig
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.timestep_embedding import TimestepEmbedding

PRECISIONS = [(torch.bfloat16, 0.05), (torch.float64, 1e-4)]


def make_unet():
    torch.manual_seed(0)
    return ConditionalUnet1D(2, 5, (8, 16), n_groups=4, time_embed_dim=8)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("rows", [3, 64])
@pytest.mark.parametrize("grad", [True, False])
def test_a_network_of_another_precision_takes_what_it_is_given(dtype, tolerance, rows, grad):
    chunk, vector, time = torch.randn(rows, 8, 2), torch.randn(rows, 5), torch.tensor(50)
    with torch.set_grad_enabled(grad):
        expected = make_unet()(chunk, time, vector)
        found = make_unet().to(dtype)(chunk, time, vector)
    assert found.dtype == dtype
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def test_the_timestep_embedding_knows_neighbouring_steps_in_bf16():
    embedding = TimestepEmbedding(8).bfloat16()
    told = embedding(torch.tensor([998, 999]))
    assert told.dtype == torch.bfloat16
    assert not torch.equal(told[0], told[1])


def fitted():
    torch.manual_seed(0)
    seen = Features({"state": Feature((3,))}, Feature((2,), kind="action"))
    policy = Policy(PolicyConfig(denoiser=SMALL_UNET, prediction="sample"), seen, WINDOW)
    state = torch.rand(50, 3).numpy()
    policy.fit({"state": Statistics.of(state), "action": Statistics.of(500 * state[:, :2])})
    return policy.eval()


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_a_whole_policy_of_another_precision_gives_nearly_the_same_chunks(dtype, tolerance):
    policy = fitted()
    observation, noise = policy.fake_observation(3), torch.randn(3, 8, 2)
    expected = policy.predict(observation, noise=noise)
    found = fitted().to(dtype).predict(observation, noise=noise)
    assert found.isfinite().all()
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def test_normalisers_and_noise_levels_stay_in_single_precision():
    policy = fitted()
    scale = policy.normalizers["action"].scale.clone()
    alphas = policy.head.process.alphas_cumprod.clone()
    policy.bfloat16()
    assert torch.equal(policy.normalizers["action"].scale, scale)
    assert torch.equal(policy.head.process.alphas_cumprod, alphas)
    assert policy.head.denoiser.final[1].weight.dtype == torch.bfloat16
    policy.double()
    assert policy.normalizers["action"].scale.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_policies_of_other_precisions_train_and_see(dtype):
    policy = make_policy(features(front=(32, 32)), token_dim=8, camera_dropout=0.2).to(dtype)
    loss = policy.loss(policy.fake_batch(4))
    loss.backward()
    assert loss.isfinite()
    assert policy.eval().predict(policy.fake_observation(2)).isfinite().all()
