"""Convolutions in fewer products: the same function, the same gradients, how many products."""

import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from published_unet import PlainUnet1D

from dipole.policy.core.toom_cook import transform, transform_for
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.checkpoint_conversion import from_published
from dipole.policy.denoisers.cpu_unet import temporal_conv
from dipole.policy.denoisers.cpu_unet.temporal_conv import convolution, transformed_products


@pytest.mark.parametrize(
    ("frames", "kernel_size", "n_products"),
    [(2, 5, 3), (3, 5, 5), (4, 5, 7), (8, 5, 16), (16, 5, 32), (6, 5, 16), (4, 3, 6), (16, 7, 64)],
)
def test_so_many_products_are_left(frames, kernel_size, n_products):
    assert transform(frames, kernel_size).n_products == n_products


@pytest.mark.parametrize(("frames", "kernel_size"), [(1, 5), (16, 1), (8, 9), (5, 5), (2, 1)])
def test_where_nothing_is_saved_there_is_no_transform(frames, kernel_size):
    assert transform(frames, kernel_size) is None


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size is 4"):
        transform(8, 4)


def plain_convolution(x, weight, bias):
    """[T, B, C], [K, C, C'] as torch has it."""
    weight = weight.permute(2, 1, 0)
    return F.conv1d(x.permute(1, 2, 0), weight, bias, padding=weight.shape[2] // 2).permute(2, 0, 1)


def with_gradients(function, tensors):
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*tensors)
    direction = torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view(out.shape)
    return [out, *torch.autograd.grad(out, tensors, direction)]


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 20),
    rows=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel_size=st.sampled_from([3, 5, 7]),
)
def test_it_is_a_convolution_and_so_are_its_gradients(frames, rows, channels, kernel_size):
    basis = transform(frames, kernel_size)
    if basis is None:
        return
    x = torch.randn(frames, rows, channels[0], dtype=torch.double)
    weight = torch.randn(kernel_size, *channels, dtype=torch.double)
    bias = torch.randn(channels[1], dtype=torch.double)
    ours = with_gradients(lambda *given: transformed_products(*given, basis), (x, weight, bias))
    plain = with_gradients(plain_convolution, (x, weight, bias))
    for mine, theirs in zip(ours, plain, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-10)


@settings(deadline=None)
@given(
    rows=st.integers(1, 6),
    channels=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    terms=st.integers(1, 13),
)
def test_wide_matrices_are_multiplied_in_parts(rows, channels, terms):
    data = torch.randn(3, rows, channels[0], dtype=torch.double)
    filters = torch.randn(3, *channels, dtype=torch.double)
    sizes = {"FEW_ROWS": 4, "WIDE": 5, "TERMS": terms}
    with patch.multiple(temporal_conv, **sizes), patch("torch.bmm", wraps=torch.bmm) as whole:
        found = temporal_conv._products(data, filters)
    in_parts = rows <= 4 and min(channels) >= 5 and channels[0] > terms
    assert (whole.call_args.args[0].shape[2] < channels[0]) == in_parts
    torch.testing.assert_close(found, data @ filters)


@pytest.mark.parametrize("frames", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_in_single_precision_it_rounds_to_within_a_hundred_thousandth(frames, kernel_size):
    """Of the largest output; the largest of tens of thousands of errors. How a processor adds up
    makes a difference of two."""
    torch.manual_seed(frames)
    x, bias = torch.randn(frames, 16, 256), torch.zeros(64)
    weight = torch.randn(kernel_size, 256, 64) / (kernel_size * 256) ** 0.5
    basis = transform_for(frames, kernel_size, x.dtype, x.device)
    exact = plain_convolution(x.double(), weight.double(), bias.double())
    errors = transformed_products(x, weight, bias, basis) - exact
    assert errors.square().mean().sqrt() < 2e-6
    assert errors.abs().max() < 1e-5 * exact.abs().max()


def test_a_large_batch_takes_this_way_and_a_small_one_does_not(monkeypatch):
    taken = []
    monkeypatch.setattr(
        temporal_conv,
        "transformed_products",
        lambda x, *rest: taken.append(x.shape[1]) or transformed_products(x, *rest),
    )
    weight, bias = torch.randn(5, 3, 3, requires_grad=True), torch.zeros(3)
    for rows in (1, temporal_conv.LARGE_BATCH - 1, temporal_conv.LARGE_BATCH, 128):
        convolution(torch.randn(8, rows, 3), weight, bias)
    assert taken == [temporal_conv.LARGE_BATCH, 128]


@pytest.mark.parametrize("extra", [0, 1])
def test_under_autocast_narrow_convolutions_are_of_single_precision_and_wide_ones_of_bf16(extra):
    channels = temporal_conv.NARROW + extra
    x = torch.randn(4, 64, channels, requires_grad=True)
    weight = torch.randn(5, channels, 3).div_(20).requires_grad_()
    bias = torch.randn(3, requires_grad=True)
    given, direction = (x, weight, bias), torch.randn(4, 64, 3)
    exact = plain_convolution(*given)
    with torch.autocast("cpu", torch.bfloat16):
        out = convolution(x.bfloat16(), weight, bias)
        assert convolution(x.detach(), weight, bias).dtype == out.dtype
    assert out.dtype == (torch.bfloat16 if extra else torch.float32)
    assert (out - exact).abs().max() < 0.02 * exact.abs().max()
    found = torch.autograd.grad(out, given, direction.to(out.dtype))
    for mine, wanted in zip(found, torch.autograd.grad(exact, given, direction), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_training_by_large_batches_is_that_of_the_plain_network():
    """Loss and the gradient of every weight, to a hundred thousandth of its largest entry."""
    torch.manual_seed(0)
    options = {"down_dims": (32, 64, 64), "time_embed_dim": 16}
    plain = PlainUnet1D(2, 10, **options)
    unet = ConditionalUnet1D(2, 10, **options)
    unet.load_state_dict(from_published(plain.state_dict()))
    chunk, target, vector = torch.randn(64, 16, 2), torch.randn(64, 16, 2), torch.randn(64, 10)
    time = torch.randint(100, (64,))
    losses = [F.mse_loss(network(chunk, time, vector), target) for network in (plain, unet)]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    expected = from_published({name: p.grad for name, p in plain.named_parameters()})
    for name, parameter in unet.named_parameters():
        scale = expected[name].abs().max()
        assert (parameter.grad - expected[name]).abs().max() < 1e-5 * scale, name
