"""The U-Net, held to the published parameter counts and to a plain one with Conv1d."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dipole.benchmarks.figures.plain import PlainUnet1D
from dipole.data import CheckpointError, ConfigError
from dipole.policy.context import Context
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.checkpoint_conversion import from_published
from dipole.policy.denoisers.cpu_unet.temporal import (
    Double,
    Halve,
    TemporalConv,
    TemporalNorm,
    mish_and_slope,
)
from dipole.policy.denoisers.unet1d import StepEmbedding


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


def test_step_embedding_is_sine_then_cosine():
    embedding = StepEmbedding(4)
    embedding.mlp = torch.nn.Identity()
    expected = [[0.0, 0.0, 1.0, 1.0], [0.841471, 1e-4, 0.540302, 1.0]]
    assert torch.allclose(embedding(torch.tensor([0, 1])), torch.tensor(expected), atol=1e-6)


shapes = st.tuples(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)
)  # frames, rows, channels in, channels out


def agree(ours: torch.nn.Module, plain, x: Tensor, plain_parameters: list[Tensor]) -> None:
    """Outputs and all gradients equal those of the plain computation, in double precision."""
    x_plain = x.clone().requires_grad_()
    x = x.requires_grad_()
    out, expected = ours(x), plain(x_plain.permute(1, 2, 0)).permute(2, 0, 1)
    assert torch.allclose(out, expected, atol=1e-10)
    direction = torch.randn_like(out)
    grads = torch.autograd.grad(out, [x, *ours.parameters()], direction)
    plain_grads = torch.autograd.grad(expected, [x_plain, *plain_parameters], direction)
    for grad, plain_grad in zip(grads, plain_grads, strict=True):
        assert torch.allclose(grad, plain_grad, atol=1e-10)


def plain_weight(layer: TemporalConv) -> Tensor:
    return layer.weight.permute(2, 1, 0).contiguous()  # [K, C, C'] -> [C', C, K]


@settings(max_examples=40, deadline=None)
@given(shapes, st.sampled_from([1, 3, 5, 7]))
def test_temporal_conv_is_conv1d(shape, kernel_size):
    frames, rows, channels_in, channels_out = shape
    layer = TemporalConv(channels_in, channels_out, kernel_size).double()
    agree(
        layer,
        lambda x: F.conv1d(x, plain_weight(layer), layer.bias, padding=kernel_size // 2),
        torch.randn(frames, rows, channels_in, dtype=torch.double),
        [layer.weight, layer.bias],
    )


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_halving_and_doubling_are_strided_convolutions(shape):
    frames, rows, channels, _ = shape
    halve, double = Halve(channels).double(), Double(channels).double()
    agree(
        halve,
        lambda x: F.conv1d(x, plain_weight(halve), halve.bias, stride=2, padding=1),
        torch.randn(2 * frames, rows, channels, dtype=torch.double),
        [halve.weight, halve.bias],
    )
    agree(
        double,
        lambda x: F.conv_transpose1d(
            x, double.weight.permute(1, 2, 0).contiguous(), double.bias, stride=2, padding=1
        ),
        torch.randn(frames, rows, channels, dtype=torch.double),
        [double.weight, double.bias],
    )


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(1, 3))
def test_temporal_norm_is_group_norm_and_mish(shape, n_groups):
    frames, rows, channels, _ = shape
    norm = TemporalNorm(n_groups, n_groups * channels).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    agree(
        norm,
        lambda x: F.mish(F.group_norm(x, n_groups, norm.weight, norm.bias)),
        5 + torch.randn(1 + frames, rows, n_groups * channels, dtype=torch.double),
        [norm.weight, norm.bias],
    )


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.sampled_from([3, 5]),
)
def test_published_weights_give_published_output(rows, action_dim, quarters, widths, kernel_size):
    dims = [8 * width for width in widths]
    options = {"kernel_size": kernel_size, "n_groups": 4, "time_embed_dim": 8}
    plain = PlainUnet1D(action_dim, 5, dims, **options)
    unet = ConditionalUnet1D(action_dim, 5, dims, **options)
    unet.load_state_dict(from_published(plain.state_dict()))
    chunk = torch.randn(rows, 4 * quarters, action_dim)
    time, vector = torch.randint(100, (rows,)), torch.randn(rows, 5)
    expected = plain(chunk, time, vector)
    assert torch.allclose(unet(chunk, time, Context(vector)), expected, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(shapes, st.sampled_from([1, 3, 5, 7]))
def test_without_gradients_small_batches_give_the_same(shape, kernel_size):
    frames, rows, channels_in, groups = shape
    conv = TemporalConv(channels_in, 4 * groups, kernel_size).double()
    norm = TemporalNorm(groups, 4 * groups).double()
    x = torch.randn(frames, rows, channels_in, dtype=torch.double)
    convolved = conv(x)
    normalised = norm(convolved)
    with torch.no_grad():
        assert torch.allclose(conv(x), convolved, atol=1e-10)
        assert torch.allclose(norm(convolved), normalised, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.integers(0, 99), max_size=4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_prepared_times_give_the_unet_at_these_times(rows, times, widths):
    dims = [8 * width for width in widths]
    unet = ConditionalUnet1D(2, 5, dims, n_groups=4, time_embed_dim=8)
    chunk, vector = torch.randn(rows, 8, 2), torch.randn(rows, 5)
    prepared = unet.prepare_time(torch.tensor(times, dtype=torch.long))
    of_context = unet.prepare_context(vector)
    for number, time in enumerate(times):
        row = tuple(half[number : number + 1] for half in prepared)
        found = unet.predict(chunk, row, of_context)
        assert torch.allclose(found, unet(chunk, time, vector), atol=1e-5)


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match=r"'encoder.weight' is no parameter"):
        from_published({"encoder.weight": torch.zeros(2)})


def test_a_plain_vector_serves_as_context():
    unet = ConditionalUnet1D(2, 3, (8, 16), n_groups=4, time_embed_dim=8)
    chunk, vector = torch.randn(2, 4, 2), torch.randn(2, 3)
    time = torch.tensor([3, 3])
    assert torch.equal(unet(chunk, time, vector), unet(chunk, 3, Context(vector)))


def test_a_horizon_that_cannot_be_halved_is_refused():
    unet = ConditionalUnet1D(2, 3, (8, 16, 32), n_groups=4, time_embed_dim=8)
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


def test_mish_and_its_slope_are_those_of_any_number():
    ordinary = torch.linspace(-60, 60, 4801)
    x = torch.cat([ordinary, torch.tensor([-1e20, -1e4, 88.8, 1e4, 1e20])])
    exactly = x.double().requires_grad_()
    out = F.mish(exactly)
    (slope,) = torch.autograd.grad(out.sum(), exactly)
    ours = mish_and_slope(x)
    assert torch.allclose(ours[0].double(), out, rtol=1e-6, atol=1e-6)
    assert torch.allclose(ours[1].double(), slope, atol=1e-6)
