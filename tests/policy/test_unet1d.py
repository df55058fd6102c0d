"""The U-Net: the published parameters and numbers, what it is told, what is added to it."""

import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from published_unet import PlainUnet1D

from dipole.data import CheckpointError, ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS, build
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.checkpoint_conversion import from_first_edition, from_published
from dipole.policy.denoisers.cpu_unet.fast_path import use_fast_path
from dipole.policy.denoisers.timestep_embedding import TimestepEmbedding
from dipole.policy.denoisers.unet_branch import UnetBranch
from dipole.policy.denoisers.unet_layers import at_resolution

SMALL = {"down_dims": (8, 16), "n_groups": 4, "time_embed_dim": 8}


def make_unet(fast=False, **options) -> ConditionalUnet1D:
    torch.manual_seed(0)
    unet = ConditionalUnet1D(2, 3, **{**SMALL, **options})
    use_fast_path(unet, fast)
    return unet


@pytest.mark.parametrize(
    ("action_dim", "context_dim", "down_dims", "time_embed_dim", "parameters"),
    [
        (2, 40, (256, 512, 1024), 256, 65_783_298),
        (2, 132, (512, 1024, 2048), 128, 251_511_938),
        (10, 274, (512, 1024, 2048), 128, 255_612_042),
    ],
)
def test_parameter_counts_are_the_published_ones(
    action_dim, context_dim, down_dims, time_embed_dim, parameters
):
    with torch.device("meta"):
        unet = ConditionalUnet1D(
            action_dim=action_dim,
            context_dim=context_dim,
            down_dims=down_dims,
            kernel_size=5,
            n_groups=8,
            time_embed_dim=time_embed_dim,
        )
    assert sum(p.numel() for p in unet.parameters()) == parameters


def test_the_timestep_embedding_is_sine_then_cosine():
    embedding = TimestepEmbedding(4)
    embedding.mlp = torch.nn.Identity()
    expected = [[0.0, 0.0, 1.0, 1.0], [0.841471, 1e-4, 0.540302, 1.0]]
    assert torch.allclose(embedding(torch.tensor([0, 1])), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("fast", [False, True])
@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.sampled_from([3, 5]),
)
def test_published_weights_give_published_output(
    fast, rows, action_dim, quarters, widths, kernel_size
):
    dims = [8 * width for width in widths]
    options = {"kernel_size": kernel_size, "n_groups": 4, "time_embed_dim": 8}
    published = PlainUnet1D(action_dim, 5, dims, **options)
    unet = ConditionalUnet1D(action_dim, 5, dims, **options)
    use_fast_path(unet, fast)
    unet.load_state_dict(from_published(published.state_dict()))
    chunk = torch.randn(rows, 4 * quarters, action_dim)
    time, vector = torch.randint(100, (rows,)), torch.randn(rows, 5)
    expected = published(chunk, time, vector)
    assert torch.allclose(unet(chunk, time, Context(vector)), expected, atol=1e-5)


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match=r"'encoder.weight' is no parameter"):
        from_published({"encoder.weight": torch.zeros(2)})


def test_weights_of_the_first_edition_have_an_axis_order_of_their_own():
    taps, matrix = torch.arange(24.0).view(2, 3, 4), torch.ones(2, 3)
    given = {
        "head.denoiser.down.0.first.first.0.weight": taps,
        "head.denoiser.up.0.resample.weight/exp_avg": taps,
        "head.denoiser.up.0.first.film.weight": matrix,
        "encoder.down.weight": taps,
    }
    found = from_first_edition(given)
    assert list(found) == list(given)
    assert found["head.denoiser.down.0.first.first.0.weight"][3, 2, 1] == taps[1, 2, 3]
    assert found["head.denoiser.up.0.resample.weight/exp_avg"][2, 3, 1] == taps[1, 2, 3]
    assert found["head.denoiser.up.0.first.film.weight"] is matrix
    assert found["encoder.down.weight"] is taps


def test_the_registry_builds_it_for_a_context_and_a_horizon():
    spec = ContextSpec(vector_dim=3, token_dim=12, frame_dim=5)
    config = {"name": "unet1d", **SMALL}
    unet = build(DENOISERS, config, action_dim=2, horizon=8, context=spec)
    context = Context(torch.randn(4, 3), torch.randn(4, 7, 12), None, torch.randn(4, 8, 5))
    assert unet(torch.randn(4, 8, 2), torch.tensor(3), context).shape == (4, 8, 2)
    with pytest.raises(ConfigError, match=r"horizon is 9.*multiple of 2"):
        build(DENOISERS, config, action_dim=2, horizon=9, context=spec)


@pytest.mark.parametrize("fast", [False, True])
@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.integers(0, 99), max_size=4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_prepared_it_predicts_the_same(fast, rows, times, widths):
    unet = make_unet(fast, down_dims=[8 * width for width in widths])
    chunk, context = torch.randn(rows, 8, 2), Context(torch.randn(rows, 3))
    prepared, of_context = unet.prepare_time(torch.tensor(times)), unet.prepare_context(context)
    for i, time in enumerate(times):
        of_time = tuple(each[i : i + 1] for each in prepared)
        found = unet.predict(chunk, of_time, of_context)
        assert torch.allclose(found, unet(chunk, time, context), atol=1e-5)


@pytest.mark.parametrize("fast", [False, True])
def test_tokens_that_share_a_time_are_a_row_of_that_time(fast):
    unet = make_unet(fast)
    chunk, vector = torch.randn(3, 8, 2), torch.randn(3, 3)
    times = torch.tensor([5, 50, 99])
    each = unet(chunk, times[:, None].expand(3, 8), vector)
    assert torch.allclose(each, unet(chunk, times, vector), atol=1e-5)


@pytest.mark.parametrize("rows", [2, 6])
def test_a_time_for_each_token_is_the_same_on_both_paths(rows):
    chunk, vector = torch.randn(rows, 8, 2), torch.randn(rows, 3)
    times = torch.randint(100, (rows, 8))
    outputs, gradients = [], []
    for fast in (False, True):
        unet = make_unet(fast).double()
        outputs.append(unet(chunk, times, vector))
        outputs[-1].square().sum().backward()
        gradients.append([p.grad for p in unet.parameters()])
    assert torch.allclose(*outputs, atol=1e-9)
    assert not torch.allclose(outputs[0], make_unet().double()(chunk, times[:, 0], vector))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-8)


def test_a_frame_at_a_lower_resolution_has_the_mean_of_those_it_covers():
    film = torch.tensor([[[0.0], [2.0], [4.0], [8.0]]])
    assert at_resolution(film, 2).tolist() == [[[1.0], [6.0]]]
    assert at_resolution(film, 4) is film
    assert at_resolution(torch.ones(1, 6), 2).shape == (1, 6)


@pytest.mark.parametrize("fast", [False, True])
def test_a_context_may_be_frames_alone(fast):
    torch.manual_seed(0)
    unet = ConditionalUnet1D(2, 0, **SMALL, frame_dim=5)
    use_fast_path(unet, fast)
    chunk, time = torch.randn(3, 8, 2), torch.tensor([1, 2, 3])
    context = Context(frames=torch.randn(3, 8, 5))
    found = unet(chunk, time, context)
    prepared = unet.predict(chunk, unet.prepare_time(time), unet.prepare_context(context))
    assert torch.allclose(found, prepared, atol=1e-6)
    assert not torch.allclose(found, unet(chunk, time, Context(frames=torch.zeros(3, 8, 5))))


def test_parts_that_the_context_lacks_are_named():
    chunk, time = torch.randn(1, 8, 2), torch.tensor([1])
    with pytest.raises(ConfigError, match="vector of 3 numbers, but the context has none"):
        make_unet()(chunk, time, Context(frames=torch.zeros(1, 8, 5)))
    with pytest.raises(ConfigError, match="frames of 5 numbers, but the context has none"):
        make_unet(frame_dim=5)(chunk, time, torch.zeros(1, 3))


def test_a_plain_vector_serves_as_context():
    unet = make_unet()
    chunk, vector = torch.randn(2, 4, 2), torch.randn(2, 3)
    time = torch.tensor([3, 3])
    assert torch.equal(unet(chunk, time, vector), unet(chunk, 3, Context(vector)))


def test_a_horizon_that_cannot_be_halved_is_refused():
    unet = make_unet(down_dims=(8, 16, 32))
    with pytest.raises(ConfigError, match=r"horizon is 10.*multiple of 4"):
        unet(torch.randn(1, 10, 2), torch.tensor([0]), torch.randn(1, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "even kernel"),
        ({"down_dims": ()}, "empty"),
        ({"down_dims": (12, 20)}, "n_groups=8"),
        ({"time_embed_dim": 5}, "time_embed_dim is 5"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ConditionalUnet1D(2, 3, **options)


@pytest.mark.parametrize("fast", [False, True])
def test_residuals_of_zeros_change_no_bit_and_others_change_the_prediction(fast):
    unet = make_unet(fast, down_dims=(8, 16, 24))
    chunk, time, vector = torch.randn(3, 8, 2), torch.tensor([1, 2, 3]), torch.randn(3, 3)
    shapes = [(3, 16, 4), (3, 24, 2), (3, 24, 2)]  # the skips of stages 1 and 2, the middle
    plain = unet(chunk, time, vector)
    zeros = [torch.zeros(shape) for shape in shapes]
    assert torch.equal(unet(chunk, time, vector, zeros), plain)
    for number, shape in enumerate(shapes):
        added = [*zeros[:number], torch.ones(shape), *zeros[number + 1 :]]
        assert not torch.allclose(unet(chunk, time, vector, added), plain)
    with pytest.raises(ValueError, match="2 residuals for a U-Net of 3 stages"):
        unet(chunk, time, vector, zeros[:2])


@pytest.mark.parametrize("token_dim", [None, 12])
def test_a_branch_changes_no_bit_at_first_and_then_what_its_hint_says(token_dim):
    unet = make_unet(fast=True, token_dim=token_dim).requires_grad_(False)
    branch = UnetBranch(unet, hint_dim=4)
    chunk, time, hint = torch.randn(3, 8, 2), torch.tensor([1, 2, 3]), torch.randn(3, 8, 4)
    tokens = None if token_dim is None else torch.randn(3, 5, token_dim)
    context = Context(torch.randn(3, 3), tokens)
    plain = unet(chunk, time, context)
    assert torch.equal(unet(chunk, time, context, branch(chunk, time, context, hint)), plain)

    optimizer = torch.optim.SGD(branch.parameters(), lr=1.0)
    for _ in range(2):  # the first update opens the zero convolutions, the second reaches the hint
        optimizer.zero_grad()
        out = unet(chunk, time, context, branch(chunk, time, context, hint))
        (out - 1).square().mean().backward()
        optimizer.step()
    hinted = [unet(chunk, time, context, branch(chunk, time, context, h)) for h in (hint, -hint)]
    assert not torch.allclose(hinted[0], plain)
    assert not torch.allclose(*hinted)
    assert all(p.grad is None for p in unet.parameters())


def test_a_branch_begins_as_the_encoder_that_it_copies():
    unet = make_unet()
    branch = UnetBranch(unet)
    chunk, time, vector = torch.randn(2, 8, 2), torch.tensor([1, 2]), torch.randn(2, 3)
    theirs = branch.encoder.encoder_features(chunk, time, vector)
    assert [each.shape for each in theirs] == [(2, 16, 4), (2, 16, 4)]
    for mine, other in zip(unet.encoder_features(chunk, time, vector), theirs, strict=True):
        assert torch.equal(mine, other)
    assert not [name for name, _ in branch.named_parameters() if ".up." in name]


def test_the_branch_of_the_architecture_page_works():
    page = (Path(__file__).parents[2] / "docs/architecture.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(next(block for block in blocks if "UnetBranch" in block), names)
    assert len(names["residuals"]) == 2
