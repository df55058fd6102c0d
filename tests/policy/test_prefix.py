"""Chunks that begin with known actions, which the network was trained to go on from."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context, ContextSpec
from dipole.policy.denoisers.base import Denoiser
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.prefix import PrefixConfig, tokens_before, with_prefix
from dipole.policy.diffusion.solvers import solver_from
from dipole.policy.heads import DiffusionHead
from dipole.policy.heads.base import ChunkBatch, SampleRequest

PREFIX = InpaintingGuidance("prefix")
TRAINED = {"probability": 0.5, "max_length": 5}
DIT = {"name": "dit", "width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8}
UNET = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
PROCESSES = ["vp", "flow", "edm"]
SOLVERS = ["ddpm", "ddim", "euler", "heun", "plms", "dpmpp_2m", "dpmpp_3m"]


def head(prefix=TRAINED, process="vp", denoiser=DIT, **options) -> DiffusionHead:
    torch.manual_seed(0)
    made = DiffusionHead(
        Feature((2,), kind="action"), 8, ContextSpec(5), denoiser,
        process={"name": process}, prefix=prefix, **options,
    )  # fmt: skip
    with torch.no_grad():  # let the network say something
        for weight in made.denoiser.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return made.eval()


def context(rows=3) -> Context:
    return Context(torch.randn(rows, 5, generator=torch.Generator().manual_seed(1)))


def known(lengths, guidance=PREFIX) -> KnownChunk:
    values = 2 * torch.rand(len(lengths), 8, 2, generator=torch.Generator().manual_seed(2)) - 1
    mask = tokens_before(torch.tensor(lengths), 8)[..., None].expand(-1, -1, 2)
    return KnownChunk(values, mask.float(), guidance)


def drawn(made, request_known=None, solver=None):
    generator = torch.Generator().manual_seed(3)
    request = SampleRequest(generator, known=request_known, solver=solver)
    with torch.no_grad():
        return made.sample(context(), request)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_prefix_comes_out_exactly(process, solver):
    given_, chosen = known([0, 3, 5]), solver_from({"name": solver, "steps": 4})
    found = drawn(head(process=process), given_, chosen)
    assert torch.isfinite(found).all()
    assert torch.equal(found[given_.mask > 0], given_.values[given_.mask > 0])


def test_without_any_token_the_chunk_is_the_ordinary_one_bit_for_bit():
    assert torch.equal(drawn(head(), known([0, 0, 0])), drawn(head()))


def test_a_row_without_a_prefix_does_not_depend_on_other_rows_prefixes():
    found = drawn(head(), known([0, 3, 5]))
    assert torch.allclose(found[0], drawn(head())[0], atol=1e-5)
    assert not torch.allclose(found[1, 3:], drawn(head())[1, 3:], atol=1e-3)


def seen_by(made, call):
    """What the network is given in each evaluation: x, and the times of its tokens."""
    seen = []
    made.denoiser.prepare_time = lambda times: times  # seen as they are
    made.denoiser.prepared_after_prefix = partial(Denoiser.prepared_after_prefix, made.denoiser)
    made.denoiser.predict = lambda x, time, *_: seen.append((x, time)) or torch.zeros_like(x)
    call()
    return seen


def test_the_network_is_given_the_prefix_clean_at_the_clean_time_in_each_evaluation():
    made, given_ = head(process="flow"), known([0, 3, 5])
    seen = seen_by(made, lambda: drawn(made, given_, solver_from({"name": "euler", "steps": 4})))
    assert len(seen) == 4
    for (x, time), expected in zip(seen, [100.0, 75.0, 50.0, 25.0], strict=True):
        assert torch.equal(x[given_.mask > 0], given_.values[given_.mask > 0])
        assert time.tolist() == [
            [expected] * 8, [0.0] * 3 + [expected] * 5, [0.0] * 5 + [expected] * 3,
        ]  # fmt: skip


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("prediction", ["noise", "sample", "v", "velocity", "edm"])
def test_training_has_no_loss_in_the_prefix(process, prediction):
    made = head({"probability": 1.0, "max_length": 5}, process, prediction=prediction)
    actions = torch.zeros(64, 8, 2)
    with torch.no_grad():  # a network that is wrong without bound in the prefix
        made.denoiser.forward = lambda x, time, _context: torch.where(
            (time != time[:, -1:])[..., None], 1e9, 0.0
        ).expand_as(x)
        assert made.loss(ChunkBatch(actions), context(64)).total < 1e6


def test_training_gives_the_prefix_clean_and_counts_the_rest():
    made = head({"probability": 1.0, "max_length": 5}, "flow")
    actions, seen = torch.full((400, 8, 2), 7.0), {}

    def forward(x, time, _context):
        seen.update(x=x, time=time)
        return torch.zeros_like(x)

    made.denoiser.forward = forward
    made.loss(ChunkBatch(actions), context(400))
    in_prefix = seen["time"] == 0
    lengths = in_prefix.sum(dim=1)
    assert torch.equal(in_prefix, tokens_before(lengths, 8))
    assert lengths.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert (seen["x"][in_prefix] == 7).all()
    assert (seen["x"][~in_prefix] != 7).all()


def test_the_share_of_chunks_with_a_prefix_is_the_probability():
    torch.manual_seed(0)
    lengths = PrefixConfig(0.5, 3).draw(20_000, 8, torch.device("cpu")).sum(dim=1)
    shares = lengths.bincount(minlength=4) / 20_000
    assert shares.tolist() == pytest.approx([0.5 + 0.125, 0.125, 0.125, 0.125], abs=0.015)


def test_with_probability_0_training_draws_what_it_always_drew():
    losses = []
    for prefix in (None, {"probability": 0.0}):
        made = head(prefix)
        torch.manual_seed(5)
        losses.append(made.loss(ChunkBatch(torch.zeros(4, 8, 2)), context(4)).total)
    assert torch.equal(*losses)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_prefixes_up_to_the_longest_of_training_are_taken(lengths):
    config, mask = PrefixConfig(0.5, 5), known(lengths).mask
    if max(lengths) > 5:
        with pytest.raises(ConfigError, match=f"a prefix of {max(lengths)} actions is known"):
            config.tokens_of(mask)
    else:
        assert config.tokens_of(mask).sum(dim=1).tolist() == lengths


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=16, max_size=16))
@settings(max_examples=60, deadline=None)
def test_only_whole_actions_from_the_first_on_are_a_prefix(weights):
    mask = torch.tensor(weights).view(1, 8, 2)
    length = next((i for i in range(8) if weights[2 * i : 2 * i + 2] != [1.0, 1.0]), 8)
    config = PrefixConfig(0.5, 8)
    if any(weights[2 * length :]):
        with pytest.raises(ConfigError, match="takes the first actions of a chunk"):
            config.tokens_of(mask)
    else:
        assert config.tokens_of(mask).sum() == length


def test_a_level_of_tokens_is_clean_in_the_prefix():
    made = head(process="flow")
    prefix = tokens_before(torch.tensor([1, 0]), 3)
    level = with_prefix(made.process.level(torch.tensor([0.25, 0.5])), prefix, made.process.clean)
    assert level.signal.tolist() == [[1.0, 0.75, 0.75], [0.5, 0.5, 0.5]]
    assert level.noise.tolist() == [[0.0, 0.25, 0.25], [0.5, 0.5, 0.5]]
    assert level.time.tolist() == [[0.0, 25.0, 25.0], [50.0, 50.0, 50.0]]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ({"probability": 1.5}, "probability is 1.5"),
        ({"probability": 0.5, "max_length": 0}, "max_length is 0"),
        ({"probability": 0.5, "max_length": 8}, "less than the horizon, 8"),
        ({"probabilty": 0.5}, "did you mean 'probability'"),
    ],
)
def test_what_cannot_be_trained_is_refused(prefix, message):
    with pytest.raises(ConfigError, match=message):
        head(prefix)


def policy(prefix, denoiser=DIT) -> Policy:
    torch.manual_seed(0)
    features = Features({"x": Feature((5,))}, Feature((2,), kind="action"))
    config = PolicyConfig(
        denoiser=denoiser,
        head={"name": "diffusion", "prefix": prefix, "solver": {"name": "ddim", "steps": 3}},
    )
    return Policy(config, features, WindowSpec(2, 8, 4)).eval()


def test_a_policy_that_was_not_trained_so_refuses_a_prefix():
    made = policy(None)
    assert made.max_prefix == 0
    with pytest.raises(ConfigError, match="does not support 'prefix': it supports costs"):
        made.predict(made.fake_observation(3), known=known([1, 1, 1]))


@pytest.mark.parametrize("denoiser", [DIT, UNET], ids=["dit", "unet"])
def test_a_policy_that_was_trained_so_goes_on_from_it(denoiser):
    made = policy(TRAINED, denoiser)
    assert made.max_prefix == 5
    made.train().loss(made.fake_batch(4)).backward()
    given_ = known([1, 3, 5])
    found = made.eval().predict(made.fake_observation(3), known=given_)
    assert (found - given_.values)[given_.mask > 0].abs().max() < 1e-6
    identity = known([1, 3, 5], InpaintingGuidance("identity"))
    assert made.predict(made.fake_observation(3), known=identity).shape == (3, 8, 2)


def two_modes(rows):
    """Chunks that all go up or all go down, which the first action shows and nothing else does."""
    mode = torch.randint(2, (rows, 1, 1)) * 2.0 - 1
    return (mode * torch.linspace(0.3, 0.9, 8)[:, None]).expand(rows, 8, 2)


def mode_of(chunk):
    return chunk.mean(dim=(1, 2)).sign()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("denoiser", "least"),
    [(DIT, 0.97), pytest.param(UNET, 0.85, marks=pytest.mark.heavy)],
    ids=["dit", "unet"],
)
def test_a_chunk_keeps_the_mode_of_its_prefix_where_a_free_one_changes_it(denoiser, least):
    torch.manual_seed(0)
    wide = {"width": 32} if denoiser is DIT else {"down_dims": [16, 32]}
    made = head(TRAINED, "flow", {**denoiser, **wide}, solver={"name": "ddim", "steps": 10})
    optimizer = torch.optim.Adam(made.parameters(), 4e-3)
    for _ in range(250):
        optimizer.zero_grad()
        made.loss(ChunkBatch(two_modes(64)), context(64).map(torch.zeros_like)).total.backward()
        optimizer.step()
    old = two_modes(200)
    mask = tokens_before(torch.full((200,), 3), 8)[..., None].expand_as(old).float()
    nothing = context(200).map(torch.zeros_like)
    with torch.no_grad():
        free = made.sample(nothing, SampleRequest())
        bound = made.sample(nothing, SampleRequest(known=KnownChunk(old, mask, PREFIX)))
    kept = [(mode_of(chunk[:, 3:]) == mode_of(old)).float().mean() for chunk in (free, bound)]
    jump = (bound[:, 3] - bound[:, 2]).abs()
    assert 0.35 < kept[0] < 0.65
    assert kept[1] > least
    assert jump.median() < 0.2  # an action is 0.086 from the next
