"""A denoiser as TorchScript: the bits of before, from any thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context
from dipole.policy.core.components import DENOISERS
from dipole.policy.core.nested import flatten
from dipole.policy.denoisers.base import Denoiser
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.runtimes import torchscript
from dipole.policy.runtimes.torchscript import Traced, without_interpreter

NETWORKS = {
    "unet1d": {"down_dims": [16, 32], "n_groups": 4, "time_embed_dim": 8},
    "dit": {"width": 16, "depth": 1, "heads": 2, "time_embed_dim": 8},
}
FEATURES = Features({"x": Feature((3,))}, Feature((2,), kind="action"))


def make_policy(network="unet1d"):
    torch.manual_seed(0)
    config = PolicyConfig(denoiser={"name": network, **NETWORKS.get(network, {})})
    policy = Policy(config, FEATURES, WindowSpec(2, 8, 4))
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def traced_at_once(monkeypatch):
    monkeypatch.setattr(torchscript, "WORTH_CALLS", 0)


def n_traces(policy):
    """How many shapes run as TorchScript."""
    return sum(t.run is not None for t in policy.head.denoiser._traces._found.values())


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_chunks_are_the_same_bit_for_bit_from_two_threads_at_once(network):
    policy = make_policy(network)
    traced = without_interpreter(policy)
    assert not isinstance(policy.head.denoiser, Traced), "the policy itself stays as it is"
    observations = [policy.fake_observation(16) for _ in range(4)]
    noises = [torch.randn(16, 8, 2) for _ in range(4)]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda o, n: traced.predict(o, noise=n), observations, noises)
    for observation, noise, chunk in zip(observations, noises, found, strict=True):
        assert torch.equal(chunk, policy.predict(observation, noise=noise))
    assert n_traces(traced) == 1


def test_weights_are_shared_and_a_trace_is_kept_until_they_are_replaced():
    policy = make_policy()
    traced = without_interpreter(policy)
    observation, noise = policy.fake_observation(2), torch.randn(2, 8, 2)
    before = traced.predict(observation, noise=noise)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    after = traced.predict(observation, noise=noise)
    assert not torch.equal(after, before)
    assert torch.equal(after, policy.predict(observation, noise=noise))
    assert n_traces(without_interpreter(policy)) == 1
    others = {name: 1.1 * tensor for name, tensor in policy.head.denoiser.state_dict().items()}
    policy.head.denoiser.load_state_dict(others, assign=True)
    traced = without_interpreter(policy)
    assert n_traces(traced) == 0
    again = traced.predict(observation, noise=noise)
    assert torch.equal(again, policy.predict(observation, noise=noise))


def test_few_calls_trace_nothing(monkeypatch):
    monkeypatch.setattr(torchscript, "WORTH_CALLS", 15)
    policy = make_policy()
    traced = without_interpreter(policy)
    for expected in (0, 1):  # ten steps each
        traced.predict(policy.fake_observation(2))
        assert n_traces(traced) == expected


def test_guidance_through_the_network_has_its_derivative():
    policy = make_policy()
    traced = without_interpreter(policy)
    observation, noise = policy.fake_observation(2), torch.randn(2, 8, 2)
    known = KnownChunk(torch.zeros(2, 8, 2), torch.ones(2, 8, 2), InpaintingGuidance("jacobian"))
    chunks = [p.predict(observation, noise=noise, known=known) for p in (policy, traced)]
    assert torch.equal(*chunks)


class Stubborn(Denoiser):
    """Another number each time that it is asked."""

    def __init__(self, action_dim, horizon, context):
        super().__init__()
        self.layer, self.calls = nn.Linear(action_dim, action_dim), 0

    def forward(self, x, time, context, residuals=()):
        self.calls += 1
        return self.layer(x) + 0.01 * self.calls


def test_a_network_that_cannot_be_traced_runs_as_it_is(monkeypatch):
    monkeypatch.setitem(DENOISERS._table, "stubborn", Stubborn)
    traced = without_interpreter(make_policy("stubborn"))
    traced.predict(traced.fake_observation(2))
    assert n_traces(traced) == 0


def test_other_policies_are_left_alone():
    assert without_interpreter("anything") == "anything"


def test_residuals_are_heard_after_tracing():
    policy = make_policy("unet1d")
    traced = without_interpreter(policy).head.denoiser
    x, context = torch.randn(2, 8, 2), traced.prepare_context(policy_context(policy))
    given = x, traced.prepare_time(torch.zeros(1)), context
    features = policy.head.denoiser.encoder_features(x, torch.zeros(2), policy_context(policy))
    residuals = tuple(torch.ones_like(each) for each in features)
    with torch.no_grad():
        plain = traced.predict(*given)
        found = traced.predict(*given, residuals)
        expected = policy.head.denoiser.predict(*given, residuals)
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain)


def policy_context(policy):
    torch.manual_seed(3)
    return policy.encode(policy.fake_observation(2))


def test_it_extrapolates_as_its_network_does():
    policy = make_policy()
    policy.head.use_guidance(2.0)
    assert without_interpreter(policy).head.denoiser.extrapolates
    assert not without_interpreter(make_policy()).head.denoiser.extrapolates


class BranchesOnNumbers(Denoiser):
    """Another branch where the chunk's first number is small."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, time, context, residuals=()):
        return x * self.weight if float(x.detach().flatten()[0]) > 0.95 else -x


def test_a_network_that_branches_on_numbers_is_not_traced():
    denoiser = BranchesOnNumbers()
    given = (torch.ones(2, 8, 2), torch.ones(2), Context(torch.ones(2, 3)))
    named, rebuild = flatten(given)
    tensors = tuple(named.values())
    with torch.no_grad():
        assert torchscript._traced(denoiser, tensors, rebuild).run is None
