"""Derivatives beyond the first: right where they are asked for, an error where they are not."""

import pytest
import torch
import torch.nn.functional as F

from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.checkpoint_conversion import from_published
from dipole.policy.denoisers.cpu_unet.derivatives import any_derivatives
from dipole.policy.denoisers.cpu_unet.products import convolution, convolution_taps, tap_products
from dipole.policy.denoisers.cpu_unet.temporal import Double, Halve, TemporalConv, TemporalNorm
from dipole.policy.training.hardware.threaded_batch import _Divided

OPTIONS = {"down_dims": (8, 16), "n_groups": 4, "time_embed_dim": 8}
ROWS = [3, 50]  # by taps, by fewer products


@pytest.fixture(scope="module")
def networks():
    """Ours and the plain one with Conv1d, of the same weights, in double precision."""
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
    assert torch.allclose(ours[2].permute(2, 1, 0), expected[2], rtol=1e-4, atol=1e-6)


LAYERS = {
    "by taps": lambda x, w: tap_products(x, w, None, convolution_taps(8, 5), 8),
    "by fewer products": lambda x, w: convolution(x, w, None),
    "norm": lambda x, w: TemporalNorm(2, 4).double()(x + w.sum()),
    "halving": lambda x, w: Halve(4).double()(x + w.sum()),
    "doubling": lambda x, w: Double(4).double()(x + w.sum()),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_without_being_asked_for_a_second_derivative_is_an_error_and_not_a_wrong_number(layer):
    x = torch.randn(8, 64, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(5, 4, 4, dtype=torch.double, requires_grad=True)
    out = LAYERS[layer](x, weight)
    with pytest.raises(RuntimeError, match=r"again: .*within .*any_derivatives\(\)"):
        torch.autograd.grad(out.square().sum(), [x, weight], create_graph=True)


@pytest.mark.parametrize("kind", ["conv", "norm", "halving", "doubling"])
@pytest.mark.parametrize("rows", ROWS)
def test_every_layer_passes_torchs_own_check_of_second_and_forward_derivatives(kind, rows):
    torch.manual_seed(0)
    made = {
        "conv": lambda: TemporalConv(2, 2, 3),
        "norm": lambda: TemporalNorm(1, 2),
        "halving": lambda: Halve(2),
        "doubling": lambda: Double(2),
    }
    layer = made[kind]().double()
    x = torch.randn(2, rows, 2, dtype=torch.double, requires_grad=True)
    direction = torch.randn_like(x)
    with any_derivatives():
        (slope,) = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
        second = torch.autograd.grad((slope * direction).sum(), x)[0]
    with torch.no_grad():
        step = 1e-5 * direction
    slopes = []
    for moved in (x.detach() + step, x.detach() - step):
        moved.requires_grad_()
        slopes.append(torch.autograd.grad(layer(moved).sin().sum(), moved)[0])
    assert torch.allclose(second, (slopes[0] - slopes[1]) / 2e-5, atol=1e-6)
    _, forwards = torch.func.jvp(layer, (x.detach(),), (direction,))
    with torch.no_grad():
        numbers = (layer(x + step) - layer(x - step)) / 2e-5
    assert torch.allclose(forwards, numbers, atol=1e-6)


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


def test_plain_operations_give_the_same_first_derivatives(networks):
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
    divided = _Divided(unet, Pool(), 2)
    assert torch.allclose(divided(chunk, time, vector), unet(chunk, time, vector), atol=1e-10)


def test_divided_rows_can_be_differentiated_again_where_the_graph_was_retained(networks):
    unet, _ = networks
    chunk, time, vector = inputs(64)
    out = _Divided(unet, Pool(), 2)(chunk.requires_grad_(), time, vector).sum()
    first = torch.autograd.grad(out, chunk, retain_graph=True)[0]
    second = torch.autograd.grad(out, chunk)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        torch.autograd.grad(out, chunk)
    with any_derivatives():
        out = _Divided(unet, Pool(), 2)(chunk, time, vector).square().sum()
    (slope,) = torch.autograd.grad(out, chunk, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), chunk)[0].abs().sum() > 0
