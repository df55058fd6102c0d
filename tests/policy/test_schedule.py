"""A frozen head keeps what follows from weights and solver: the same chunks, and never stale."""

import copy
import pickle

import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import load_policy
from dipole.policy.checkpoint.checkpoint_folder import Checkpoint, policy_config, save_checkpoint
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.solvers import DDIM, DDPM, Jump
from dipole.policy.runtimes.runnable import load_runnable

UNET = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
DIT = {"name": "dit", "width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8}
FEATURES = Features({"position": Feature((2,))}, Feature((2,), kind="action"))


def made(denoiser=UNET, seed=0, **options) -> Policy:
    torch.manual_seed(seed)
    policy = Policy(PolicyConfig(denoiser=denoiser, **options), FEATURES, WindowSpec(2, 8, 4))
    with torch.no_grad():  # let the network say something, of time too
        for weight in policy.head.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return policy.eval().requires_grad_(False)


def observed(policy):
    return {"position": torch.linspace(-1, 1, 12).view(3, 2, 2).to(policy.held.low)}


def drawn(policy, **asked):
    return policy.predict(observed(policy), torch.Generator().manual_seed(3), **asked)


def known(method):
    mask = torch.zeros(3, 8, 2)
    mask[:, :3] = 1
    return KnownChunk(torch.full((3, 8, 2), 0.3), mask, InpaintingGuidance(method))


REQUESTS = [
    {},
    {"solver": DDPM(7)},
    {"solver": Jump(1)},
    {"solver": Jump(2), "init": (torch.full((3, 8, 2), 0.2), 0.5)},
    {"init": (torch.full((3, 8, 2), 0.2), 0.4)},
    {"init": (torch.full((3, 8, 2), 0.2), 0.0)},
    {"known": known("replace")},
    {"known": known("jacobian")},
    {"known": known("prefix")},
    {"guidance_scale": 2.0},
]


@pytest.mark.parametrize("denoiser", [UNET, DIT])
def test_a_frozen_head_draws_the_same_chunks_in_any_order_of_requests(denoiser):
    options = {"head": {"name": "diffusion", "prefix": {"probability": 0.5, "max_length": 4}}}
    options["guidance"] = {"dropout": 0.1, "scale": 1.0}
    plain, frozen = made(denoiser, **options), made(denoiser, **options)
    frozen.head.freeze()
    for request in [*REQUESTS, *REQUESTS[::-1], *(each for r in REQUESTS for each in (r, r))]:
        assert torch.equal(drawn(frozen, **request), drawn(plain, **request))


@pytest.mark.parametrize("scales", [(1.0, 3.0, 2.0, 2.0)])
def test_a_network_that_is_told_the_scale_of_guidance_is_told_each(scales):
    options = {"head": {"name": "diffusion", "extra_inputs": ["target_time", "guidance_scale"]}}
    options["guidance"] = {"dropout": 0.1, "scale": 1.0}
    plain, frozen = made(**options), made(**options)
    frozen.head.freeze()
    for scale in scales:
        assert torch.equal(drawn(frozen, guidance_scale=scale), drawn(plain, guidance_scale=scale))
    for policy in (plain, frozen):
        policy.guidance_scale = 2.5
        policy.build_in_guidance()
    assert torch.equal(drawn(frozen), drawn(plain))


def test_only_a_frozen_head_keeps_and_it_computes_times_once(monkeypatch):
    policy, counted = made(), []
    prepare = policy.head.denoiser.prepare_time
    monkeypatch.setattr(
        policy.head.denoiser, "prepare_time", lambda times: counted.append(1) or prepare(times)
    )
    for _ in range(3):
        drawn(policy)
    assert len(counted) == 3
    policy.head.freeze()
    for _ in range(3):
        drawn(policy)
    assert len(counted) == 4
    policy.solver = DDIM(5)
    drawn(policy)
    assert len(counted) == 5


def changed_by_loading(policy):
    policy.load_state_dict(made(seed=1).state_dict())


def changed_by_assigning(policy):
    policy.load_state_dict(made(seed=1).state_dict(), assign=True)


def changed_by_training(policy):
    policy.train()
    with torch.no_grad():
        for weight, other in zip(policy.parameters(), made(seed=1).parameters(), strict=True):
            weight.copy_(other)
    policy.eval()


def converted(policy):
    policy.double()


@pytest.mark.parametrize(
    "change", [changed_by_loading, changed_by_assigning, changed_by_training, converted]
)
def test_what_was_kept_is_forgotten_with_other_weights(change):
    policy, fresh = made(), made()
    policy.head.freeze()
    before = drawn(policy)
    for each in (policy, fresh):
        change(each)
    assert torch.equal(drawn(policy), drawn(fresh))
    assert not torch.equal(drawn(policy), before)


def pickled(policy):
    return pickle.loads(pickle.dumps(policy))


@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_a_copy_of_a_frozen_head_is_independent(again):
    policy = made()
    policy.head.freeze()
    before = drawn(policy)
    other = again(policy)
    changed_by_loading(other)
    assert torch.equal(drawn(policy), before)
    assert torch.equal(drawn(other), drawn(made(seed=1)))


def test_what_is_loaded_to_run_is_frozen_and_what_is_loaded_to_train_is_not(tmp_path):
    policy = made()
    saved = Checkpoint(policy_config(policy), {"ema": policy.state_dict()}, {"step": 1})
    save_checkpoint(tmp_path / "00000001", saved)
    assert load_runnable(tmp_path / "00000001").head._schedules.is_on
    assert not load_policy(tmp_path / "00000001").head._schedules.is_on
