"""The U-Net's fast path on a CPU: the reference's numbers, where it serves, and its weights."""

import copy
import io
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.policy.denoisers import ConditionalUnet1D, any_derivatives
from dipole.policy.denoisers.cpu_unet.fast_path import CpuFastPath, use_fast_path
from dipole.policy.denoisers.cpu_unet.norm_mish import group_norm_mish, mish_and_slope
from dipole.policy.denoisers.cpu_unet.weights import arrange_weights, taps
from dipole.policy.denoisers.unet_layers import ConvNormAct, Downsample, Upsample
from dipole.policy.training.optimization.optimizer import load_optimizer_tensors, optimizer_tensors

FAST = CpuFastPath()
SMALL = {"down_dims": (8, 16), "n_groups": 4, "time_embed_dim": 8}
shapes = st.tuples(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)
)  # frames, rows, channels in, channels out


def agree(layer: nn.Module, fast, reference, x: Tensor) -> None:
    """Outputs and all gradients are the reference's. x: [T, B, C], in double precision."""
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, wanted = fast(found), reference(expected.permute(1, 2, 0)).permute(2, 0, 1)
    assert torch.allclose(out, wanted, atol=1e-10)
    direction = torch.randn_like(out)
    parameters = list(layer.parameters())
    grads = torch.autograd.grad(out, [found, *parameters], direction)
    wanted_grads = torch.autograd.grad(wanted, [expected, *parameters], direction)
    for grad, wanted_grad in zip(grads, wanted_grads, strict=True):
        assert torch.allclose(grad, wanted_grad, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(shapes, st.sampled_from([1, 3, 5, 7]))
def test_a_convolution_is_torchs(shape, kernel_size):
    frames, rows, channels_in, channels_out = shape
    conv = nn.Conv1d(channels_in, channels_out, kernel_size, padding=kernel_size // 2).double()
    x = torch.randn(frames, rows, channels_in, dtype=torch.double)
    agree(conv, lambda x: FAST.convolution(conv, x), conv, x)


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_changes_of_resolution_are_torchs(shape):
    frames, rows, channels, _ = shape
    down, up = Downsample(channels).double(), Upsample(channels).double()
    x = torch.randn(2 * frames, rows, channels, dtype=torch.double)
    agree(down, lambda x: FAST.downsample(down, x), down, x)
    agree(up, lambda x: FAST.upsample(up, x), up, x[:frames])


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(1, 3), st.booleans())
def test_norm_mish_and_film_are_torchs(shape, n_groups, modulates):
    frames, rows, channels_in, size = shape
    layer = ConvNormAct(channels_in, n_groups * size, 3, n_groups).double()
    nn.init.normal_(layer[1].weight)
    nn.init.normal_(layer[1].bias)
    film = torch.randn(2, rows, n_groups * size, dtype=torch.double) if modulates else None

    def reference(x):
        out = layer(x)
        return out if film is None else film[0][:, :, None] * out + film[1][:, :, None]

    x = torch.randn(1 + frames, rows, channels_in, dtype=torch.double)
    given = None if film is None else (film[0], film[1])
    agree(layer, lambda x: FAST.conv_norm_act(layer, x, given), reference, x)


@settings(max_examples=20, deadline=None)
@given(shapes, st.sampled_from([1, 3, 5, 7]))
def test_without_gradients_small_batches_give_the_same(shape, kernel_size):
    frames, rows, channels_in, groups = shape
    conv = nn.Conv1d(channels_in, 4 * groups, kernel_size, padding=kernel_size // 2).double()
    norm = nn.GroupNorm(groups, 4 * groups).double()
    x = torch.randn(frames, rows, channels_in, dtype=torch.double)
    convolved = FAST.convolution(conv, x)
    normalised = group_norm_mish(norm, convolved)
    with torch.no_grad():
        assert torch.allclose(FAST.convolution(conv, x), convolved, atol=1e-10)
        assert torch.allclose(group_norm_mish(norm, convolved), normalised, atol=1e-10)


def test_mish_and_its_slope_are_those_of_any_number():
    ordinary = torch.linspace(-60, 60, 4801)
    x = torch.cat([ordinary, torch.tensor([-1e20, -1e4, 88.8, 1e4, 1e20])])
    exactly = x.double().requires_grad_()
    out = F.mish(exactly)
    (slope,) = torch.autograd.grad(out.sum(), exactly)
    ours = mish_and_slope(x)
    assert torch.allclose(ours[0].double(), out, rtol=1e-6, atol=1e-6)
    assert torch.allclose(ours[1].double(), slope, atol=1e-6)


def make_unet(**options) -> ConditionalUnet1D:
    torch.manual_seed(0)
    return ConditionalUnet1D(2, 3, **{**SMALL, **options})


def count(monkeypatch) -> list[int]:
    """Grows by one entry with each prediction on the fast path."""
    calls: list[int] = []
    predict = CpuFastPath.predict
    monkeypatch.setattr(
        CpuFastPath, "predict", lambda self, *given: calls.append(1) or predict(self, *given)
    )
    return calls


@pytest.mark.parametrize("rows", [2, 6, 50])  # gathered frames, a product per tap, fewer products
def test_the_whole_network_is_the_reference(rows, monkeypatch):
    calls = count(monkeypatch)
    unet = make_unet(down_dims=(8, 16, 24)).double()
    reference = copy.deepcopy(unet)
    use_fast_path(reference, False)
    chunk, vector = torch.randn(rows, 8, 2), torch.randn(rows, 3)
    outputs = [each(chunk, torch.arange(rows), vector) for each in (unet, reference)]
    assert len(calls) == 1
    assert torch.allclose(*outputs, atol=1e-10)
    for out in outputs:
        out.square().sum().backward()
    pairs = zip(unet.named_parameters(), reference.parameters(), strict=True)
    for (name, mine), other in pairs:
        assert torch.allclose(mine.grad, other.grad, atol=1e-9), name


def test_where_it_cannot_serve_the_reference_computes(monkeypatch):
    calls = count(monkeypatch)
    unet = make_unet()
    chunk, vector = torch.randn(2, 8, 2), torch.randn(2, 3)

    def took_it(network=unet, call=lambda network: network(chunk, 3, vector)) -> bool:
        before = len(calls)
        call(network)
        return len(calls) > before

    assert took_it()
    assert not took_it(copy.deepcopy(unet).bfloat16())
    assert took_it(copy.deepcopy(unet).double())
    with any_derivatives():
        assert not took_it()
    tangent = torch.ones_like(chunk)
    assert not took_it(
        call=lambda n: torch.func.jvp(lambda x: n(x, 3, vector), (chunk,), (tangent,))
    )
    assert not took_it(call=lambda n: torch.export.export(n, (chunk, torch.tensor(3), vector)))
    use_fast_path(unet, False)
    assert not took_it()
    use_fast_path(unet, True)
    assert took_it()


def by_tap(unet: ConditionalUnet1D) -> bool:
    convolutions = [m for m in unet.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    return all(taps(layer).is_contiguous() for layer in convolutions)


def test_weights_lie_by_tap_whatever_becomes_of_them():
    unet = make_unet()
    assert by_tap(unet)
    as_torch = {name: tensor.contiguous() for name, tensor in unet.state_dict().items()}
    other = make_unet()
    other.load_state_dict({name: tensor + 1 for name, tensor in as_torch.items()})
    assert by_tap(other)
    other.load_state_dict(as_torch, assign=True)
    assert by_tap(other)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, as_torch[name])
    assert by_tap(copy.deepcopy(unet).double().float())
    assert by_tap(copy.deepcopy(unet).to("meta").to_empty(device="cpu"))
    optimizer = torch.optim.AdamW(unet.parameters(), fused=True)
    unet(torch.randn(50, 8, 2), torch.arange(50), torch.randn(50, 3)).sum().backward()
    optimizer.step()
    assert by_tap(unet)
    for parameter in unet.parameters():
        assert parameter.grad.stride() == parameter.stride()
        assert optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()


def test_a_network_goes_to_another_process_with_the_arrangement_of_its_weights():
    unet = make_unet()
    other = pickle.loads(pickle.dumps(unet))
    assert by_tap(other)
    other.load_state_dict({name: tensor + 1 for name, tensor in unet.state_dict().items()})
    assert by_tap(other)


def test_weights_of_torchs_arrangement_can_be_viewed_as_one_row():
    unet = make_unet()
    chunk, vector = torch.randn(50, 8, 2), torch.randn(50, 3)
    before = unet(chunk, torch.arange(50), vector)
    arrange_weights(unet, by_tap=False)
    row = torch.nn.utils.parameters_to_vector(unet.parameters())
    torch.nn.utils.vector_to_parameters(row, unet.parameters())
    assert torch.allclose(unet(chunk, torch.arange(50), vector), before, atol=1e-6)


def test_gradients_lie_as_their_weights_do_in_either_arrangement():
    unet = make_unet()
    unet(torch.randn(50, 8, 2), torch.arange(50), torch.randn(50, 3)).sum().backward()
    before = [parameter.grad.clone() for parameter in unet.parameters()]
    for wanted in (False, True):
        arrange_weights(unet, by_tap=wanted)
        for parameter, grad in zip(unet.parameters(), before, strict=True):
            assert parameter.grad.stride() == parameter.stride()
            assert torch.equal(parameter.grad, grad)


def test_no_rows_give_no_chunks():
    unet = make_unet()
    nothing = unet(torch.zeros(0, 8, 2), torch.zeros(0), torch.zeros(0, 3))
    assert nothing.shape == (0, 8, 2)


def test_a_seed_gives_weights_in_the_order_of_memory():
    """As it did when weights were [K, C, C']: the seeds of trainings that are written down."""
    torch.manual_seed(3)
    drawn = [torch.nn.Linear(8, 32), torch.nn.Linear(32, 8), torch.rand(5 * 2 * 8)]
    torch.manual_seed(3)
    unet = ConditionalUnet1D(2, 3, **SMALL)
    bound = 1 / (5 * 2) ** 0.5
    expected = (2 * drawn[2] - 1) * bound
    assert torch.allclose(taps(unet.down[0].first.first[0]).flatten(), expected, atol=1e-6)


def test_fused_updates_go_on_as_before_from_a_saved_state():
    """Parameters and the optimiser's state in the same order of memory: else both are scrambled."""
    unets = [make_unet(), make_unet()]
    chunk, vector = torch.randn(50, 8, 2), torch.randn(50, 3)

    def step(unet, optimizer):
        optimizer.zero_grad()
        unet(chunk, torch.arange(50), vector).square().mean().backward()
        optimizer.step()

    optimizers = [torch.optim.AdamW(unet.parameters(), lr=0.01, fused=True) for unet in unets]
    step(unets[0], optimizers[0])
    as_saved = [
        {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in given
        }
        for given in (
            unets[0].state_dict().items(),
            optimizer_tensors(optimizers[0], unets[0]).items(),
        )
    ]
    unets[1].load_state_dict(as_saved[0])
    load_optimizer_tensors(optimizers[1], unets[1], as_saved[1])
    for unet, optimizer in zip(unets, optimizers, strict=True):
        step(unet, optimizer)
    for mine, other in zip(*(unet.parameters() for unet in unets), strict=True):
        assert torch.equal(mine, other)


def test_a_checkpoint_has_weights_as_torch_has_them(tmp_path):
    trainer = make_trainer(tmp_path / "run", write_dataset(tmp_path / "walk.zarr"), steps=1)
    trainer.fit()
    (found,) = (tmp_path / "run").glob("checkpoints/*/model.safetensors")
    weights = load_file(found)
    denoiser = trainer.state.policy.head.denoiser
    weight = weights["head.denoiser.down.0.first.first.0.weight"]
    assert weight.shape == (8, 2, 5)
    assert weight.is_contiguous()
    assert torch.equal(weight, denoiser.down[0].first.first[0].weight)


def test_what_is_traced_with_gradients_can_be_saved():
    unet = make_unet()
    given = (torch.randn(2, 8, 2), torch.tensor([3, 7]), torch.randn(2, 3))
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(unet, given, check_trace=False), file)
    file.seek(0)
    assert torch.allclose(torch.jit.load(file)(*given), unet(*given), atol=1e-6)
