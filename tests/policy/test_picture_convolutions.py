"""Convolutions over pictures: torch's numbers and gradients, and which way is taken."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dipole.policy.denoisers import any_derivatives
from dipole.policy.encoders.cameras.backbones.resnet import ResNet
from dipole.policy.encoders.cameras.convolutions import layer
from dipole.policy.encoders.cameras.convolutions.gathered import gathered_product, pointwise_product
from dipole.policy.encoders.cameras.convolutions.group_norm import (
    PictureGroupNorm,
    in_channels_last,
)
from dipole.policy.encoders.cameras.convolutions.layer import PictureConv2d
from dipole.policy.encoders.cameras.convolutions.transformed import transformed_convolution

CL = torch.channels_last


def agree(fast, reference, weight_shape, x_shape, tolerance=1e-10):
    """Outputs and both gradients, in double precision."""
    torch.manual_seed(0)
    weight = torch.randn(weight_shape, dtype=torch.double, requires_grad=True)
    x = torch.randn(x_shape, dtype=torch.double).to(memory_format=CL).requires_grad_()
    out, wanted = fast(x, weight), reference(x, weight)
    assert torch.allclose(out, wanted, atol=tolerance)
    direction = torch.randn_like(wanted)
    found = torch.autograd.grad(out, (x, weight), direction)
    for grad, expected in zip(
        found, torch.autograd.grad(wanted, (x, weight), direction), strict=True
    ):
        assert torch.allclose(grad, expected, atol=tolerance)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 3), (5, 6), (6, 6), (2, 8)])
def test_fewer_products_are_torchs_convolution(size):
    agree(
        transformed_convolution,
        lambda x, w: F.conv2d(x, w, padding=1),
        (4, 3, 3, 3),
        (2, 3, *size),
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (4, 0), (5, 2)])
@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_a_product_over_gathered_cells_is_torchs_convolution(size, kernel, padding, stride):
    agree(
        lambda x, w: gathered_product(x, w, stride, padding),
        lambda x, w: F.conv2d(x, w, None, stride, padding),
        (4, 3, kernel, kernel),
        (2, 3, *size),
    )


def test_a_pointwise_product_is_torchs_convolution():
    agree(
        lambda x, w: pointwise_product(x, w, 2),
        lambda x, w: F.conv2d(x, w, None, 2),
        (4, 3, 1, 1),
        (2, 3, 7, 6),
    )


def conv(kernel=3, stride=1, channels=128) -> PictureConv2d:
    torch.manual_seed(0)
    return PictureConv2d(channels, channels, kernel, stride, kernel // 2)


def maps(side, rows=8, channels=128):
    return torch.randn(rows, channels, side, side).to(memory_format=CL)


WAYS = ("transformed_convolution", "gathered_product", "pointwise_product")


def noting(name, taken):
    function = getattr(layer, name)

    def noted(*arguments):
        taken.append(name)
        return function(*arguments)

    return noted


def way_of(module, x, monkeypatch) -> str | None:
    """The name of the function that computes it; None: torch's own."""
    taken = []
    for name in WAYS:
        monkeypatch.setattr(layer, name, noting(name, taken))
    module(x)
    monkeypatch.undo()
    return taken[0] if taken else None


def test_the_way_is_chosen_by_kernel_map_and_precision(monkeypatch):
    assert way_of(conv(), maps(3), monkeypatch) == "transformed_convolution"
    assert way_of(conv(stride=2), maps(6), monkeypatch) == "gathered_product"
    assert way_of(conv(kernel=1, stride=2), maps(12), monkeypatch) == "pointwise_product"
    assert way_of(conv(), maps(12), monkeypatch) is None
    assert way_of(conv(channels=32), maps(3, channels=32), monkeypatch) is None
    assert way_of(conv(), maps(3, rows=1), monkeypatch) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert way_of(conv(), maps(3), monkeypatch) == "gathered_product"
        assert way_of(conv(), maps(6), monkeypatch) is None


@pytest.mark.parametrize("side", [3, 6, 12])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_under_autocast_it_is_torchs_in_bf16(side, kernel, stride):
    module, x = conv(kernel, stride), maps(side).requires_grad_()
    plain = nn.Conv2d(128, 128, kernel, stride, kernel // 2, bias=False)
    plain.load_state_dict(module.state_dict())
    found = []
    for each in (module, plain):
        with torch.autocast("cpu", torch.bfloat16):
            out = each(x)
        out.float().square().sum().backward()
        found.append((out.float(), each.weight.grad, x.grad))
        assert out.dtype == torch.bfloat16
        x.grad = None
    for mine, theirs in zip(*found, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.allclose(mine, theirs, atol=0.03 * theirs.detach().abs().max().item())


def test_without_gradients_and_in_other_memory_it_gives_the_same():
    module, x = conv(), maps(3)
    with torch.no_grad():
        assert torch.equal(module(x), module(x.contiguous()))
    assert torch.allclose(module(x), module(x).detach(), atol=1e-4)
    assert module(x).is_contiguous(memory_format=CL)


def test_derivatives_of_any_kind_are_torchs_own():
    module, x = conv().double(), maps(3).double().requires_grad_()
    with any_derivatives():
        (slope,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert module.weight.grad is not None
    with pytest.raises(RuntimeError, match="any_derivatives"):
        torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    _, tangent = torch.func.jvp(module, (x.detach(),), (torch.ones_like(x),))
    assert torch.allclose(tangent, F.conv2d(torch.ones_like(x), module.weight, padding=1))


def test_parameters_are_those_of_torchs_layers_in_torchs_memory():
    module = conv()
    assert list(module.state_dict()) == ["weight"]
    assert module.weight.is_contiguous()


def plain_resnet(network: ResNet) -> ResNet:
    """Of torch's own layers: the same weights and names."""
    plain = copy.deepcopy(network)
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, PictureConv2d):
                size = (child.in_channels, child.out_channels, child.kernel_size)
                other = nn.Conv2d(*size, child.stride, child.padding, bias=False)
                other.weight = child.weight
                setattr(parent, name, other)
    stem = plain.stem
    if len(stem) == 4:
        plain.stem = nn.Sequential(stem[0], stem[1], stem[3], stem[2])  # the ReLU before pooling
    return plain


@pytest.mark.parametrize("stem", ["pooled", "patches"])
def test_a_residual_network_is_the_plain_one_to_rounding(stem):
    torch.manual_seed(0)
    network = ResNet((16, 128), (1, 2), stem).double()
    plain = plain_resnet(network)
    x = torch.randn(8, 3, 24, 24, dtype=torch.double)
    out, wanted = network(x.to(memory_format=CL)).features, plain(x).features
    assert torch.allclose(out, wanted, atol=1e-10)
    direction = torch.randn_like(wanted)
    found = torch.autograd.grad(out, list(network.parameters()), direction)
    expected = torch.autograd.grad(wanted, list(plain.parameters()), direction)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9)


@pytest.mark.heavy
def test_the_published_network_is_the_plain_one_to_single_precision():
    torch.manual_seed(0)
    network = ResNet()
    x = torch.randn(8, 3, 84, 84)
    with torch.no_grad():
        out, wanted = network(x.to(memory_format=CL)).features, plain_resnet(network)(x).features
    assert torch.allclose(out, wanted, atol=1e-4 * wanted.abs().max().item())


@given(st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 5))
def test_group_norm_in_channels_last_memory_is_torch_s_and_its_gradients(n, groups, wide, side):
    channels = groups * wide
    generator = torch.Generator().manual_seed(n * 100 + channels * 10 + side)
    x = torch.randn(n, channels, side, side + 1, generator=generator, dtype=torch.float64)
    weight, bias = (torch.randn(channels, generator=generator, dtype=x.dtype) for _ in range(2))
    inputs = [x.contiguous(memory_format=CL), weight, bias]
    inputs = [each.requires_grad_() for each in inputs]
    ours = in_channels_last(inputs[0], groups, weight, bias, 1e-5)
    theirs = F.group_norm(inputs[0], groups, weight, bias, 1e-5)
    wanted = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous(memory_format=CL)
    gradients = [torch.autograd.grad((y * wanted).sum(), inputs) for y in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_norm_off_a_cpu_leaves_pictures_in_the_memory_in_which_they_lie():
    norms = [each for each in ResNet().modules() if isinstance(each, nn.GroupNorm)]
    assert len(norms) == 20
    assert {type(each) for each in norms} == {PictureGroupNorm}
    norm = norms[0].to("meta")
    x = torch.empty(2, 64, 5, 7, device="meta", dtype=torch.bfloat16)
    assert norm(x.float()).is_contiguous()
    there = norm(x.to(memory_format=CL))
    assert there.is_contiguous(memory_format=CL)
    assert there.dtype == torch.float32  # as torch's own under autocast
