"""The U-Net, held to the published parameter counts and to a plain one with Conv1d."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dipole.data import ConfigError
from dipole.policy.context import Context
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.temporal import Double, Halve, TemporalConv, TemporalNorm
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


def plain_forward(unet: ConditionalUnet1D, chunk: Tensor, time: Tensor, vector: Tensor) -> Tensor:
    """The published forward pass, written with torch's own layers in [B, C, T]."""

    def block(b, x):
        conv, norm = b[0], b[1]
        x = F.conv1d(x, plain_weight(conv), conv.bias, padding=conv.kernel_size // 2)
        return F.mish(F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps))

    def residual(r, x):
        scale, bias = r.film(F.mish(condition)).unsqueeze(-1).chunk(2, dim=1)
        h = block(r.second, scale * block(r.first, x) + bias)
        if isinstance(r.shortcut, TemporalConv):
            x = F.conv1d(x, plain_weight(r.shortcut), r.shortcut.bias)
        return h + x

    condition = torch.cat([unet.time_embedding(time), vector], dim=1)
    x, skips = chunk.transpose(1, 2), []
    for i, stage in enumerate(unet.down):
        x = residual(stage.second, residual(stage.first, x))
        skips.append(x)
        if i < len(unet.down) - 1:
            halve = stage.resample
            x = F.conv1d(x, plain_weight(halve), halve.bias, stride=2, padding=1)
    for r in unet.middle:
        x = residual(r, x)
    for stage in unet.up:
        x = torch.cat([x, skips.pop()], dim=1)
        x = residual(stage.second, residual(stage.first, x))
        double = stage.resample
        weight = double.weight.permute(1, 2, 0)
        x = F.conv_transpose1d(x, weight, double.bias, stride=2, padding=1)
    x = block(unet.final[0], x)
    return F.conv1d(x, plain_weight(unet.final[1]), unet.final[1].bias).transpose(1, 2)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.sampled_from([3, 5]),
)
def test_unet_is_the_plain_one(rows, action_dim, quarters, widths, kernel_size):
    dims = [8 * width for width in widths]
    unet = ConditionalUnet1D(action_dim, 5, dims, kernel_size, n_groups=4, time_embed_dim=8)
    chunk = torch.randn(rows, 4 * quarters, action_dim)
    time, vector = torch.randint(100, (rows,)), torch.randn(rows, 5)
    expected = plain_forward(unet, chunk, time, vector)
    assert torch.allclose(unet(chunk, time, Context(vector)), expected, atol=1e-5)


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
