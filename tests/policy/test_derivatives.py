"""Derivatives beyond the first: right where they are asked for, an error where they are not."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from published_unet import PlainUnet1D

from dipole.policy.core.derivatives import any_derivatives
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.checkpoint_conversion import from_published
from dipole.policy.denoisers.cpu_unet.fast_path import CpuFastPath
from dipole.policy.denoisers.cpu_unet.norm_mish import group_norm_mish
from dipole.policy.denoisers.cpu_unet.temporal_conv import (
    convolution,
    convolution_taps,
    tap_products,
)
from dipole.policy.denoisers.unet_layers import Downsample, Upsample
from dipole.policy.training.hardware.threaded_batch import BatchRunner

OPTIONS = {"down_dims": (8, 16), "n_groups": 4, "time_embed_dim": 8}
ROWS = [3, 50]  # by taps, by fewer products


@pytest.fixture(scope="module")
def networks():
    """Ours and the published one, of the same weights, in double precision."""
    torch.manual_seed(0)
    plain = PlainUnet1D(2, 5, **OPTIONS)
    unet = ConditionalUnet1D(2, 5, **OPTIONS)
    unet.load_state_dict(from_published(plain.state_dict()))
    embed = plain.diffusion_step_encoder[0].forward
    plain.diffusion_step_encoder[0].forward = lambda time: embed(time).double()
    return unet.double(), plain.double()


def inputs(rows):
    generator = torch.Generator().manual_seed(rows)
    chunk = torch.randn(rows, 8, 2, generator=generator, dtype=torch.double)
    vector = torch.randn(rows, 5, generator=generator, dtype=torch.double)
    return chunk, torch.arange(rows) % 100, vector


def penalty(network, rows):
    """The gradient of a gradient penalty by the first and the last weight, and by the chunk."""
    chunk, time, vector = inputs(rows)
    chunk.requires_grad_()
    out = network(chunk, time, vector)
    (slope,) = torch.autograd.grad(out.square().sum(), chunk, create_graph=True)
    parameters = list(network.parameters())
    towards = [chunk, parameters[-1], parameters[-2]]
    return torch.autograd.grad(slope.square().sum(), towards)


@pytest.mark.parametrize("rows", ROWS)
def test_a_gradient_of_a_gradient_is_that_of_the_plain_network(networks, rows):
    unet, plain = networks
    with any_derivatives():
        ours = penalty(unet, rows)
    expected = penalty(plain, rows)
    assert torch.allclose(ours[0], expected[0], rtol=1e-4, atol=1e-6)
    assert torch.allclose(ours[1], expected[1], rtol=1e-4, atol=1e-6)
    assert torch.allclose(ours[2], expected[2], rtol=1e-4, atol=1e-6)


LAYERS = {
    "by taps": lambda x, w: tap_products(x, w, None, convolution_taps(8, 5), 8),
    "by fewer products": lambda x, w: convolution(x, w, None),
    "norm": lambda x, w: group_norm_mish(nn.GroupNorm(2, 4).double(), x + w.sum()),
    "downsampling": lambda x, w: CpuFastPath().downsample(Downsample(4).double(), x + w.sum()),
    "upsampling": lambda x, w: CpuFastPath().upsample(Upsample(4).double(), x + w.sum()),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_without_being_asked_for_a_second_derivative_is_an_error_and_not_a_wrong_number(layer):
    x = torch.randn(8, 64, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(5, 4, 4, dtype=torch.double, requires_grad=True)
    out = LAYERS[layer](x, weight)
    with pytest.raises(RuntimeError, match=r"again: .*within .*any_derivatives\(\)"):
        torch.autograd.grad(out.square().sum(), [x, weight], create_graph=True)


@pytest.mark.parametrize("rows", ROWS)
def test_the_whole_network_has_forward_derivatives(networks, rows):
    """As MeanFlow and consistency training take them, by the chunk."""
    chunk, time, vector = inputs(rows)
    direction = torch.ones_like(chunk)
    ours, expected = (
        torch.func.jvp(lambda x, n=network: n(x, time, vector), (chunk,), (direction,))[1]
        for network in networks
    )
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_the_reference_gives_the_same_first_derivatives(networks):
    unet, _ = networks
    chunk, time, vector = inputs(50)
    gradients = []
    for asked in (False, True):
        unet.zero_grad()
        if asked:
            with any_derivatives():
                loss = F.mse_loss(unet(chunk, time, vector), chunk)
        else:
            loss = F.mse_loss(unet(chunk, time, vector), chunk)
        loss.backward()
        gradients.append([p.grad.clone() for p in unet.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


class Pool:
    """One row after another, in this thread."""

    map = staticmethod(map)


@pytest.mark.parametrize("time", [7, torch.tensor(7), torch.arange(64)])
def test_divided_rows_take_every_time_that_the_denoiser_takes(networks, time):
    unet, _ = networks
    chunk, _, vector = inputs(64)
    divided = BatchRunner(unet, Pool(), 2)
    assert torch.allclose(divided(chunk, time, vector), unet(chunk, time, vector), atol=1e-10)


def test_divided_rows_can_be_differentiated_again_where_the_graph_was_retained(networks):
    unet, _ = networks
    chunk, time, vector = inputs(64)
    out = BatchRunner(unet, Pool(), 2)(chunk.requires_grad_(), time, vector).sum()
    first = torch.autograd.grad(out, chunk, retain_graph=True)[0]
    second = torch.autograd.grad(out, chunk)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        torch.autograd.grad(out, chunk)
    with any_derivatives():
        out = BatchRunner(unet, Pool(), 2)(chunk, time, vector).square().sum()
    (slope,) = torch.autograd.grad(out, chunk, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), chunk)[0].abs().sum() > 0
