"""Chunks that begin and end with what is observed: exact ends, and nothing changed without them."""

from dataclasses import replace

import pytest
import torch

from dipole.data import ConfigError, Feature, Features, Statistics, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.known_ends import KnownEnds
from dipole.policy.runtimes.program import SamplingProgram

UNET = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
DIT = {"name": "dit", "width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8}
ENDS = {"first": "position", "last": "goal"}
PLACE = Feature((2,), units="m", names=("x", "y"))
FEATURES = Features(
    {"position": PLACE, "goal": PLACE, "speed": Feature((3,))}, replace(PLACE, kind="action")
)


def made(known=ENDS, n_obs_steps=1, denoiser=UNET, features=FEATURES, **options) -> Policy:
    torch.manual_seed(0)
    config = PolicyConfig(denoiser=denoiser, known=known, **options)
    policy = Policy(config, features, WindowSpec(n_obs_steps, 8, 4))
    policy.fit(
        {
            "position": Statistics.of(torch.tensor([[0.0, 0.0], [1.0, 1.0]]).numpy()),
            "goal": Statistics.of(torch.tensor([[5.0, 2.0], [6.0, 8.0]]).numpy()),
            "speed": Statistics.of(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).numpy()),
            "action": Statistics.of(torch.tensor([[-3.0, -4.0], [7.0, 4.0]]).numpy()),
        }
    )
    with torch.no_grad():  # let the network say something
        for weight in policy.head.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return policy.eval()


def observed(n_obs_steps=1, rows=3):
    random = torch.Generator().manual_seed(1)
    sizes = {"position": 2, "goal": 2, "speed": 3}
    return {n: 4 * torch.rand(rows, n_obs_steps, s, generator=random) for n, s in sizes.items()}


def drawn(policy, observation, **asked):
    return policy.predict(observation, torch.Generator().manual_seed(3), **asked)


@pytest.mark.parametrize("method", ["given", "replace"])
@pytest.mark.parametrize("denoiser", [UNET, DIT])
@pytest.mark.parametrize("encoder", ["state", "nothing"])
def test_the_chunk_begins_where_it_is_and_ends_where_it_is_to_be(method, denoiser, encoder):
    policy = made({**ENDS, "method": method}, denoiser=denoiser, encoder={"name": encoder})
    seen = observed()
    chunk = drawn(policy, seen)
    assert torch.isfinite(chunk).all()
    torch.testing.assert_close(chunk[:, 0], seen["position"][:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(chunk[:, -1], seen["goal"][:, 0], atol=1e-5, rtol=0)


def test_each_frame_that_was_observed_is_known_and_the_goal_is_the_newest():
    policy, seen = made(n_obs_steps=3), observed(3)
    chunk = drawn(policy, seen)
    torch.testing.assert_close(chunk[:, :3], seen["position"], atol=1e-5, rtol=0)
    torch.testing.assert_close(chunk[:, -1], seen["goal"][:, -1], atol=1e-5, rtol=0)


def test_one_end_may_be_left_to_the_network():
    seen = observed()
    chunk = drawn(made({"last": "goal"}), seen)
    torch.testing.assert_close(chunk[:, -1], seen["goal"][:, 0], atol=1e-5, rtol=0)
    assert not torch.allclose(chunk[:, 0], seen["position"][:, 0], atol=0.05)


def test_the_network_sees_known_places_as_actions_are_normalised():
    policy, seen = made(encoder={"name": "nothing"}), observed()
    given, kept = [], policy.head.estimate
    policy.head.estimate = lambda x, *rest, **named: given.append(x) or kept(x, *rest, **named)
    drawn(policy, seen)
    low, high = torch.tensor([-3.0, -4.0]), torch.tensor([7.0, 4.0])
    wanted = 2 * (seen["goal"][:, 0] - low) / (high - low) - 1
    for x in given:
        torch.testing.assert_close(x[:, -1], wanted)


def test_without_known_ends_chunks_and_losses_are_the_ordinary_ones_bit_for_bit():
    plain, replaced = made(None), made({**ENDS, "method": "replace"})
    replaced.ends = None
    assert torch.equal(drawn(plain, observed()), drawn(replaced, observed()))
    batch = plain.fake_batch(4)
    losses = []
    for policy in (plain, made({**ENDS, "method": "replace"})):
        torch.manual_seed(5)
        losses.append(policy.loss(batch))
    assert torch.equal(*losses)


def test_training_gives_the_ends_clean_and_counts_what_lies_between():
    policy, seen = made(encoder={"name": "nothing"}, process={"name": "flow"}), {}
    batch = policy.fake_batch(64)

    def network(x, time, _context):
        seen.update(x=x, time=time)
        return torch.where((time == 0)[..., None], 1e9, 0.0).expand_as(x)

    policy.head.denoiser.forward = network
    assert policy.loss(batch) < 1e6
    shown = policy.normalizers["action"].normalize(batch["action"])
    assert torch.equal(seen["x"][:, [0, -1]], shown[:, [0, -1]])
    assert (seen["x"][:, 1:-1] != shown[:, 1:-1]).all()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"first": "positon"}, "did you mean 'position'"),
        ({"last": "speed"}, r"shape \[3\], and an action \[2\]"),
        ({}, "names no observation"),
        ({"first": "position", "method": "giving"}, "did you mean 'given'"),
    ],
)
def test_what_is_no_action_is_refused(known, message):
    with pytest.raises(ConfigError, match=message):
        made(known)


def test_other_units_are_refused():
    apart = {"position": PLACE, "goal": Feature((2,), units="mm")}
    with pytest.raises(ConfigError, match="is in mm, and an action in m"):
        made(features=replace(FEATURES, observation=apart))


def test_one_unit_for_all_numbers_is_the_same_as_one_for_each():
    spelled = {"position": PLACE, "goal": Feature((2,), units=("metres", "m"))}
    assert made(features=replace(FEATURES, observation=spelled)).ends is not None


def test_chunks_with_known_ends_go_on_from_no_other_prefix():
    head = {"name": "diffusion", "prefix": {"probability": 0.5, "max_length": 3}}
    assert made(None, head=head).max_prefix == 3
    assert made(head=head).max_prefix == 0


def test_a_head_that_draws_around_nothing_is_refused():
    with pytest.raises(ConfigError, match="'regression' draws no chunks around known actions"):
        made(head={"name": "regression"}, denoiser={"name": "unet1d", "down_dims": [8, 16]})


def test_nothing_else_may_be_known_and_exports_are_refused():
    policy, mask = made(), torch.ones(3, 8, 2)
    assert not policy.supports & {"known", "prefix", "given"}
    with pytest.raises(ConfigError, match="no other part of them may be known"):
        drawn(policy, observed(), known=KnownChunk(mask, mask))
    with pytest.raises(ConfigError, match="exports cannot"):
        SamplingProgram(policy)


def test_a_policy_without_known_ends_refuses_what_it_was_not_trained_for():
    mask = torch.ones(3, 8, 2)
    with pytest.raises(ConfigError, match="policies that were trained with known ends"):
        drawn(made(None), observed(), known=KnownChunk(mask, mask, InpaintingGuidance("given")))


def test_a_chunk_needs_something_to_draw():
    with pytest.raises(ConfigError, match="leaves nothing of a chunk of 2 actions"):
        KnownEnds("position", "goal").check(FEATURES, WindowSpec(1, 2, 1))
