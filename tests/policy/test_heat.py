"""Heat maps: where in its cameras' pictures a policy's next actions come from."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import cameras, features, make_policy

from dipole.policy.denoisers.attention import CrossAttention
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput
from dipole.policy.inspection import attention, heat_maps
from dipole.policy.policy import Policy

TWO = {"front": (32, 32), "wrist": (16, 24)}  # of which the tiny network leaves 4 x 4 and 2 x 3


def observed(policy: Policy) -> dict[str, np.ndarray]:
    return {name: value[0].numpy() for name, value in policy.fake_observation(1).items()}


def sees_one_cell(policy: Policy) -> None:
    """The network of its camera has features in one cell, unless the picture is of one colour."""

    def features_of(images):
        cells = torch.zeros(len(images), 32, 4, 4)
        cells[:, :, 1, 3] = images.flatten(1).std(1)[:, None]
        return BackboneOutput(cells)

    cameras(policy).encoder("front").backbone.forward = features_of


@pytest.mark.parametrize("pooling", ["spatial_softmax", "mean"])
@pytest.mark.parametrize("frozen", [False, True])
def test_influence_is_where_the_features_are(pooling, frozen):
    policy = make_policy(pooling={"name": pooling}, frozen=frozen).eval()
    sees_one_cell(policy)
    (heat,) = heat_maps(policy, observed(policy)).values()
    expected = np.zeros((4, 4))
    expected[1, 3] = 1
    assert heat.kind == "influence"
    assert heat.share == 1
    assert heat.cells.tolist() == expected.tolist()


def test_a_picture_of_one_colour_has_no_influence():
    policy = make_policy().eval()
    plain = observed(policy) | {"front": np.full((2, 32, 32, 3), 200, np.uint8)}
    assert heat_maps(policy, plain)["front"].cells.max() < 0.1


def test_a_camera_that_nothing_follows_from_has_no_influence():
    policy = make_policy(features(**TWO)).eval()
    torch.nn.init.zeros_(cameras(policy).encoder("wrist").project.weight)
    found = heat_maps(policy, observed(policy))
    assert (found["front"].share, found["wrist"].share) == (1, 0)
    assert found["front"].cells.max() == 1


@pytest.mark.parametrize(
    "encoder",
    [
        {},
        pytest.param({"shared_backbone": True}, marks=pytest.mark.heavy),
        pytest.param({"token_dim": 8}, marks=pytest.mark.heavy),
        pytest.param({"differences": True}, marks=pytest.mark.heavy),
    ],
)
def test_looking_on_changes_nothing_and_is_always_the_same(encoder):
    policy = make_policy(features(**TWO), **encoder).eval()
    seen, generator = policy.fake_observation(2), torch.Generator()
    before = policy.predict(seen, generator.manual_seed(0))
    one = observed(policy)
    with torch.inference_mode():
        first = heat_maps(policy, one)
    again = heat_maps(policy, one)
    assert {name: heat.cells.shape for name, heat in first.items()} == {
        "front": (4, 4),
        "wrist": (2, 3),
    }
    assert sum(heat.share for heat in first.values()) == pytest.approx(1)
    for name, heat in first.items():
        np.testing.assert_allclose(again[name].cells, heat.cells, atol=1e-6)
    assert torch.equal(policy.predict(seen, generator.manual_seed(0)), before)
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_there_are_no_maps_of_chunks_that_are_drawn_otherwise(monkeypatch):
    policy = make_policy(features(**TWO)).eval()
    monkeypatch.setattr(Policy, "guidance_scale", 0.0)
    assert heat_maps(policy, observed(policy)) == {}


def test_attention_without_queries_is_the_same_everywhere_and_nowhere_hot():
    policy = make_policy(features(**TWO), token_dim=8).eval()
    for layer in policy.head.modules():
        if isinstance(layer, CrossAttention):
            torch.nn.init.zeros_(layer.query.weight)
            torch.nn.init.zeros_(layer.query.bias)
    found = heat_maps(policy, observed(policy))
    assert {heat.kind for heat in found.values()} == {"attention"}
    assert all(heat.cells.max() < 1e-5 for heat in found.values())
    assert found["front"].share == pytest.approx(16 / 22)  # of the cells of both


def test_attention_is_that_of_the_newest_frame_s_tokens_in_their_order(monkeypatch):
    """Tokens: front of both frames, 16 cells each, then wrist, 6 each."""
    monkeypatch.setattr(attention, "_weights", lambda *_: torch.arange(44.0))
    found = heat_maps(policy := make_policy(features(**TWO), token_dim=8).eval(), observed(policy))
    even = 43 / 2
    for name, newest in (("front", np.arange(16, 32)), ("wrist", np.arange(38, 44))):
        above = np.clip(newest / even - 1, 0, None)
        assert np.allclose(found[name].cells.ravel(), above / max(above.max(), 1))


def test_recorded_weights_are_those_that_the_layer_attends_with():
    torch.manual_seed(0)
    layer = CrossAttention(8, 4, 2)
    torch.nn.init.eye_(layer.out.weight)
    x, tokens = torch.randn(3, 5, 8), torch.randn(3, 6, 4)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[:, 4:] = False
    keys, values, *rest = layer.keys_values(tokens, mask)
    one_hot = torch.eye(7, 4).expand(3, 2, 7, 4)  # what is attended to tells how much
    update = layer(x, (keys, one_hot, *rest)) - x  # [3, 5, 2 heads * 4]
    expected = update.view(3, 5, 2, 4).mean((0, 1, 2)).detach()
    found = attention._weights(layer, x, (keys, values, *rest)).detach()
    assert torch.allclose(found[:4], expected, atol=1e-6)
    assert not found[4:].any()
