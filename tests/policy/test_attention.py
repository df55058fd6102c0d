"""Tokens of pictures, and the U-Net that attends to them."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, features, make_policy

from dipole.data import ConfigError
from dipole.policy.context import Context
from dipole.policy.denoisers.attention import CrossAttention
from dipole.policy.denoisers.unet1d import ConditionalUnet1D

OPTIONS = {name: value for name, value in SMALL_UNET.items() if name != "name"}
CAMERAS = {"front": (32, 32), "wrist": (16, 24)}


def attending(**options) -> ConditionalUnet1D:
    torch.manual_seed(0)
    unet = ConditionalUnet1D(2, 5, token_dim=12, attention_heads=4, **OPTIONS, **options)
    for layer in unet.attention:
        torch.nn.init.normal_(layer.out.weight)
    return unet.eval()


def context(rows=3, tokens=7, mask=None) -> Context:
    generator = torch.Generator().manual_seed(1)
    said = torch.randn(rows, tokens, 12, generator=generator)
    return Context(torch.randn(rows, 5, generator=generator), said, mask)


def test_a_token_for_each_cell_of_each_picture():
    policy = make_policy(features(**CAMERAS), token_dim=12).eval()
    found = policy.encode(policy.fake_observation(3))
    # An eighth of each side: 4 x 4 and 2 x 3 cells, two frames.
    assert found.tokens.shape == (3, 2 * (16 + 6), 12)
    assert found.token_mask is None
    assert found.vector.shape == (3, 2 * (6 + 6 + 2))


def test_a_token_says_what_is_where_and_when():
    policy = make_policy(features(front=(32, 32)), token_dim=12).eval()
    observation = policy.fake_observation(1)
    observation["front"][:] = 128
    tokens = policy.encode(observation).tokens[0]
    assert len({tuple(token.tolist()) for token in tokens}) == 32


def test_without_tokens_the_unet_is_as_published():
    plain = ConditionalUnet1D(2, 5, **OPTIONS)
    assert not [name for name in plain.state_dict() if "attention" in name]


def test_attention_adds_nothing_at_first():
    torch.manual_seed(0)
    unet = ConditionalUnet1D(2, 5, token_dim=12, **OPTIONS)
    plain = ConditionalUnet1D(2, 5, **OPTIONS)
    missing, unexpected = plain.load_state_dict(unet.state_dict(), strict=False)
    assert missing == []
    assert all(name.startswith("attention.") for name in unexpected)
    chunk, time = torch.randn(3, 8, 2), torch.tensor(3)
    assert torch.allclose(unet(chunk, time, context()), plain(chunk, time, context()), atol=1e-6)


def test_the_chunk_keeps_its_length_and_attends_to_every_token():
    unet, said = attending(), context()
    tokens = said.tokens.requires_grad_()
    out = unet(torch.randn(3, 8, 2), torch.tensor(3), Context(said.vector, tokens))
    assert out.shape == (3, 8, 2)
    out.square().sum().backward()
    assert (tokens.grad.abs().sum(2) > 0).all()


def test_masked_tokens_are_not_attended_to():
    unet, said = attending(), context()
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[:, 4:] = False
    chunk, time = torch.randn(3, 8, 2), torch.tensor(3)
    masked = unet(chunk, time, Context(said.vector, said.tokens, mask))
    fewer = unet(chunk, time, Context(said.vector, said.tokens[:, :4]))
    assert torch.allclose(masked, fewer, atol=1e-5)


def test_where_all_tokens_are_masked_attention_adds_nothing():
    layer = CrossAttention(8, 12, heads=2)
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(3, 4, 8)
    nobody = torch.zeros(3, 7, dtype=torch.bool)
    assert torch.allclose(layer(x, layer.keys_values(context().tokens, nobody)), x)


def test_prepared_times_and_context_give_the_same_and_ask_the_tokens_once():
    unet, said = attending(), context()
    calls = []
    for layer in unet.attention:
        layer.key_value.register_forward_hook(lambda *_: calls.append(1))
    times = torch.tensor([90, 40, 0])
    prepared, of_context = unet.prepare_time(times), unet.prepare_context(said)
    chunk = torch.randn(3, 8, 2)
    rows = [tuple(half[i : i + 1] for half in prepared) for i in range(3)]
    found = [unet.predict(chunk, row, of_context) for row in rows]
    assert len(calls) == len(unet.attention)
    for time, prediction in zip(times, found, strict=True):
        assert torch.allclose(prediction, unet(chunk, time, said), atol=1e-5)


def test_a_policy_with_tokens_learns_and_a_missing_camera_is_masked():
    policy = make_policy(features(**CAMERAS), token_dim=12, camera_dropout=0.3)
    policy.loss(policy.fake_batch(8)).backward()
    assert policy.head.denoiser.attention[0].out.weight.grad.abs().sum() > 0
    policy.eval()
    observation = policy.fake_observation(2)
    assert policy.encode(observation).token_mask is None
    del observation["wrist"]
    assert policy.encode(observation).tokens.shape == (2, 32, 12)
    del observation["front"]
    assert policy.predict(observation).shape == (2, 8, 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="attention_heads is 3: it has to divide the width 8"):
        ConditionalUnet1D(2, 5, token_dim=12, attention_heads=3, **OPTIONS)
    with pytest.raises(ConfigError, match="token_dim is 6: it must be a multiple of 4"):
        make_policy(token_dim=6)
    with pytest.raises(ConfigError, match="attends to tokens, but the context has none"):
        attending()(torch.randn(1, 8, 2), torch.tensor(3), torch.randn(1, 5))
