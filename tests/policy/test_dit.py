"""The diffusion transformer over action tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from dipole.data import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS, build
from dipole.policy.denoisers import DiffusionTransformer
from dipole.policy.denoisers.base import map_tensors
from dipole.policy.denoisers.dit import Block, TimeEmbedding, sinusoids
from dipole.policy.training.hardware.threaded_batch import threaded_batch

SPEC = ContextSpec(vector_dim=5, token_dim=12, frame_dim=3)
HORIZON = 8


def network(spec: ContextSpec = SPEC, **options) -> DiffusionTransformer:
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8}
    return DiffusionTransformer(2, HORIZON, spec, **sizes | options).eval()


def trained(spec: ContextSpec = SPEC, **options) -> DiffusionTransformer:
    """With weights that let everything through."""
    made = network(spec, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return made


def context(rows: int = 3, tokens: int = 4, frames: int = HORIZON) -> Context:
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=generator)

    return Context(drawn(5), drawn(tokens, 12), None, drawn(frames, 3))


def chunk(rows: int = 3, frames: int = HORIZON) -> Tensor:
    return torch.randn(rows, frames, 2, generator=torch.Generator().manual_seed(3))


TIMES = torch.tensor([0.0, 7.0, 93.0])


def test_at_initialisation_the_prediction_is_exactly_0():
    made = network()
    assert torch.equal(made(chunk(), TIMES, context()), torch.zeros(3, HORIZON, 2))


def test_at_initialisation_every_block_is_the_identity():
    made = network()
    seen = []
    for block in made.blocks:
        block.register_forward_hook(lambda _block, inputs, out: seen.append((inputs[0], out)))
    made(chunk(), TIMES, context())
    assert len(seen) == 2
    assert all(torch.equal(before, after) for before, after in seen)


def test_after_a_few_steps_every_parameter_has_a_gradient():
    made = network()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (made(chunk(), TIMES, context()) - 1).square().mean().backward()
        optimizer.step()
    assert [name for name, p in made.named_parameters() if not p.grad.abs().sum()] == []


def test_actions_are_told_apart_by_their_positions_alone():
    made, said = trained(), replace(context(), frames=torch.zeros(3, HORIZON, 3))
    order = torch.randperm(HORIZON, generator=torch.Generator().manual_seed(4))
    assert not torch.allclose(
        made(chunk()[:, order], TIMES, said), made(chunk(), TIMES, said)[:, order], atol=1e-2
    )
    made.positions.zero_()
    assert torch.allclose(
        made(chunk()[:, order], TIMES, said), made(chunk(), TIMES, said)[:, order], atol=1e-4
    )


def test_frames_of_the_context_belong_to_their_actions():
    made, said = trained(), context()
    made.positions.zero_()
    order = torch.randperm(HORIZON, generator=torch.Generator().manual_seed(4))
    moved = replace(said, frames=said.frames[:, order])
    assert torch.allclose(
        made(chunk()[:, order], TIMES, moved), made(chunk(), TIMES, said)[:, order], atol=1e-4
    )


def test_tokens_that_are_masked_change_nothing():
    made, said = trained().double(), context().map(Tensor.double)
    padded = torch.cat([said.tokens, 100 * torch.ones(3, 2, 12)], dim=1)
    mask = torch.tensor([True] * 4 + [False] * 2).expand(3, 6)
    found = made(chunk(), TIMES, replace(said, tokens=padded, token_mask=mask))
    assert (found - made(chunk(), TIMES, said)).abs().max() < 1e-6


def test_a_row_without_tokens_attends_to_nothing():
    made, said = trained(), context()
    mask = torch.tensor([[True] * 4, [False] * 4, [True] * 4])
    found = made(chunk(), TIMES, replace(said, token_mask=mask))
    alone = made(chunk(), TIMES, replace(said, tokens=torch.zeros(3, 0, 12)))
    assert torch.isfinite(found).all()
    assert torch.allclose(found[1], alone[1], atol=1e-5)
    assert not torch.allclose(found[0], alone[0], atol=1e-2)


def test_a_time_for_each_token_of_equal_entries_is_the_time_of_the_row():
    made = trained()
    each = TIMES[:, None].expand(3, HORIZON)
    assert torch.allclose(
        made(chunk(), each, context()), made(chunk(), TIMES, context()), atol=1e-5
    )


def test_a_clean_prefix_is_two_conditions_a_row_and_the_same_prediction():
    made = trained()
    prefix = torch.arange(HORIZON) < torch.tensor([[0], [3], [8]])
    times = torch.where(prefix, 0.0, 93.0)
    times_prepared = made.prepare_time(torch.tensor([0.0, 93.0])).split(1)
    prepared = made.prepared_after_prefix(prefix, *times_prepared)
    of_context = made.prepare_context(context())
    rows = []
    made.blocks[0].register_forward_hook(lambda _block, inputs, _out: rows.append(inputs[1]))
    found = made.predict(chunk(), prepared, of_context)
    assert rows[0].shape == (3, 2, 16)
    assert torch.allclose(found, made(chunk(), times, context()), atol=1e-5)


def test_a_token_s_time_is_its_own():
    made = trained()
    each = TIMES[:, None].repeat(1, HORIZON)
    each[:, 2] = 50
    condition = []
    made.blocks[0].register_forward_hook(lambda _block, inputs, _out: condition.append(inputs[1]))
    made(chunk(), each, context())
    differ = (condition[0] != condition[0][:, :1]).any(dim=2)
    assert differ.sum(dim=0).tolist() == [0, 0, 3, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "spec",
    [SPEC, ContextSpec(5), ContextSpec(0, 12), ContextSpec(0, None, 3)],
    ids=["all", "vector", "tokens", "frames"],
)
def test_prepared_and_predicted_it_is_the_same(spec):
    made, said = trained(spec), context()
    of_time, of_context = made.prepare_time(TIMES), made.prepare_context(said)
    whole = made(chunk(), TIMES, said)
    assert torch.equal(made.predict(chunk(), of_time, of_context), whole)
    one = map_tensors(lambda leaf: leaf[1:2], of_time)
    for row in range(3):
        own = made.predict(chunk(), one, of_context)[row]
        assert torch.allclose(own, made(chunk(), TIMES[1].expand(3), said)[row], atol=1e-5)


def test_a_part_of_the_context_that_the_network_needs_is_asked_for():
    with pytest.raises(ConfigError, match="built for a vector, but the context has none"):
        network()(chunk(), TIMES, replace(context(), vector=None))
    with pytest.raises(ConfigError, match="built for frames, but the context has none"):
        network()(chunk(), TIMES, replace(context(), frames=None))
    with pytest.raises(ConfigError, match="attends to tokens, but the context has none"):
        network()(chunk(), TIMES, replace(context(), tokens=None))


def test_residuals_are_added_to_the_outputs_of_the_first_blocks():
    made, said = trained(), context()
    inputs = []
    made.final.register_forward_hook(lambda _layer, given, _out: inputs.append(given[0]))
    plain = made(chunk(), TIMES, said)
    zeros, ramp = torch.zeros(3, HORIZON, 16), torch.linspace(-1, 1, 16).expand(3, HORIZON, 16)
    assert torch.equal(made(chunk(), TIMES, said, [zeros, zeros]), plain)
    made(chunk(), TIMES, said, [zeros, ramp])
    assert torch.allclose(inputs[2], inputs[0] + ramp, atol=1e-5)
    assert not torch.allclose(made(chunk(), TIMES, said, [ramp]), plain, atol=1e-2)
    with pytest.raises(ConfigError, match="3 residuals for 2 blocks"):
        made(chunk(), TIMES, said, [zeros, zeros, ramp])


@pytest.mark.parametrize(("positions", "horizons"), [("sinusoidal", (1, 5, 11)), ("learned", (5,))])
def test_other_horizons_than_that_of_training(positions, horizons):
    made = trained(ContextSpec(5), positions=positions)
    for frames in horizons:
        assert made(chunk(frames=frames), TIMES, context()).shape == (3, frames, 2)


def test_learned_positions_begin_as_the_sinusoids_and_end_with_the_horizon():
    fixed, learned = network(), network(positions="learned")
    assert torch.equal(fixed.positions, learned.positions)
    assert "positions" in learned.state_dict()
    assert "positions" not in fixed.state_dict()
    with pytest.raises(ConfigError, match="11 frames, but the network learned 8 positions"):
        trained(ContextSpec(5), positions="learned")(chunk(frames=11), TIMES, context())


def test_positions_of_a_longer_chunk_continue_those_of_a_shorter_one():
    made = network()
    longer = made._places(12)
    assert longer.shape == (12, 16)
    assert torch.equal(longer[:HORIZON], made.positions)


def test_a_state_dict_is_taken_back():
    made, other = trained(), network()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(chunk(), TIMES, context()), made(chunk(), TIMES, context()))


def test_gradients_are_finite_in_bf16():
    made = trained()
    with torch.autocast("cpu", torch.bfloat16):
        out = made(chunk(), TIMES, context())
        out.float().square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in made.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_answers_in_its_own(dtype):
    made = trained().to(dtype)
    out = made(chunk(), TIMES, context())
    assert out.dtype == dtype
    whole = trained()(chunk(), TIMES, context())
    assert torch.allclose(out.float(), whole, atol=0.2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize(("config", "parameters"), [("dit_small", 4_871_426), ("dit", 32_627_330)])
def test_the_sizes_that_ship(config, parameters):
    """DiT-S has 33 million (Peebles & Xie, 2023, table 1), with another embedding."""
    folder = Path(__file__).parents[2] / "configs" / "policy" / "denoiser"
    given = {"action_dim": 2, "horizon": 16, "context": ContextSpec(40)}
    options = {
        name: value
        for file in ("dit", config)
        for name, value in yaml.safe_load((folder / f"{file}.yaml").read_text()).items()
        if name != "defaults"
    }
    made = build(DENOISERS, options, **given)
    assert sum(weight.numel() for weight in made.parameters()) == parameters


def test_threads_that_share_its_rows_compute_the_same():
    made = trained().train()
    each = TIMES[:, None].repeat(8, HORIZON)
    said, rows = context(24), chunk(24)
    whole = made(rows, each, said)
    with threaded_batch(made, 2):
        divided = made(rows, each, said)
    assert torch.allclose(divided, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "width is 16: it has to be even and divisible by 3 heads"),
        ({"depth": 0}, "depth is 0"),
        ({"time_embed_dim": 7}, "time_embed_dim is 7"),
        ({"positions": "learnt"}, "unknown positions 'learnt'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        network(**options)


class Step(torch.nn.Module):
    """One evaluation of a prepared network, as an export has it."""

    def __init__(self, made: DiffusionTransformer) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: Tensor, of_time: Tensor, of_context: tuple[object, ...]) -> Tensor:
        return self.made.predict(x, of_time, of_context)


@pytest.mark.slow
def test_one_evaluation_is_exported_for_any_number_of_rows():
    made = trained()
    said = replace(context(), token_mask=torch.ones(3, 4, dtype=torch.bool))
    inputs = (chunk(), made.prepare_time(TIMES[:1]), made.prepare_context(said))
    rows = torch.export.Dim("rows", min=1, max=64)
    vector, frames, keys_values = inputs[2]
    shapes = (
        {0: rows},
        None,
        ({0: rows}, {0: rows}, tuple(({0: rows},) * len(own) for own in keys_values)),
    )
    assert vector.shape == (3, 16)
    assert frames.shape == (3, HORIZON, 16)
    with torch.no_grad():
        program = torch.export.export(Step(made), inputs, dynamic_shapes=shapes)
        one = map_tensors(lambda leaf: leaf[:1], inputs[2])
        found = program.module()(chunk(1), inputs[1], one)
        assert torch.allclose(found, made.predict(chunk(1), inputs[1], one), atol=1e-5)


def test_a_block_is_the_published_one():
    """Of the condition, in this order: shift, scale, gate of attention, then of the network."""
    torch.manual_seed(0)
    block = Block(width=8, heads=2, mlp_ratio=2.0)
    x, condition = torch.randn(3, 4, 8), torch.randn(3, 1, 8)
    six = block.modulation(condition).chunk(6, dim=2)
    normal = torch.nn.functional.layer_norm(x, (8,), eps=1e-6)
    expected = x + six[2] * block.self_attention(normal * (1 + six[1]) + six[0])
    normal = torch.nn.functional.layer_norm(expected, (8,), eps=1e-6)
    expected = expected + six[5] * block.mlp(normal * (1 + six[4]) + six[3])
    assert torch.allclose(block(x, condition, None, lambda each: each), expected, atol=1e-6)


def test_sinusoids_are_cosines_and_then_sines():
    found = sinusoids(torch.tensor([0.0, 1.0]), 4)
    assert found[0].tolist() == [1, 1, 0, 0]
    assert found[1].tolist() == pytest.approx([0.5403, 0.99995, 0.8415, 0.0099998], abs=1e-4)


def test_the_time_s_network_begins_with_weights_of_a_fiftieth():
    layers = network(width=64, time_embed_dim=64).time_embedding.mlp
    for layer in (layers[0], layers[2]):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_low_precision_tells_the_time_257_from_256():
    embedding, given = TimeEmbedding(8, 4).to(torch.bfloat16), []
    embedding.mlp[0].register_forward_pre_hook(lambda _, args: given.append(args[0]))
    embedding(torch.tensor([257.0]))
    assert torch.equal(given[0], sinusoids(torch.tensor([257.0]), 8).to(torch.bfloat16))
