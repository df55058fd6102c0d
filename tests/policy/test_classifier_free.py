"""Classifier-free guidance: of exact mixtures as published, exact at scales 0 and 1, learned."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, WINDOW, features, make_policy

from dipole.data import ConfigError, Feature, Features
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS
from dipole.policy.denoisers.base import Denoiser
from dipole.policy.denoisers.guided import GuidedDenoiser
from dipole.policy.diffusion.classifier_free import ClassifierFree, Unconditional
from dipole.policy.diffusion.costs import CostTerm, Obstacle
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers import solver_from
from dipole.policy.heads.base import SampleRequest
from dipole.policy.heads.diffusion import DiffusionHead
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.guidance import set_guidance
from dipole.policy.runtimes.runnable import load_runnable

ROWS = 4000
DEVIATION = 0.1
# Two ways for each of two labels: left are the first two, right their mirror images.
MODES = torch.tensor([[-0.9, -0.1], [-0.3, 0.1], [0.3, 0.1], [0.9, -0.1]])
LABELS = torch.tensor([0, 0, 1, 1])


class ExactMixture(Denoiser):
    """E[clean | x, weights of the modes] in closed form; the context's vector is the weights."""

    def __init__(self, action_dim: int, horizon: int, context: ContextSpec) -> None:
        super().__init__()
        self.process: nn.Module
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, context, residuals=()):
        level = self.process.level(time).over(x)
        variance = (level.signal * DEVIATION) ** 2 + level.noise**2  # [B, 1, 1]
        offsets = x - level.signal * MODES  # [B, K, 2], of x [B, 1, 2]
        log_shares = context.vector.log() - (offsets**2 / (2 * variance)).sum(2)
        shares = log_shares.softmax(1)[..., None]
        posterior = MODES + level.signal * DEVIATION**2 / variance * offsets
        return (shares * posterior).sum(1, keepdim=True)


DENOISERS.add("test_exact_mixture")(ExactMixture)


def head_of(steps=50, clip_sample=False, process="vp") -> DiffusionHead:
    head = DiffusionHead(
        Feature((2,), kind="action"),
        1,
        ContextSpec(len(MODES)),
        {"name": "test_exact_mixture"},
        {"name": process},
        "sample",
        {"name": "ddim", "steps": steps},
        clip_sample,
    )
    head.denoiser.process = head.process
    return head.eval()


def weights(*labels) -> Context:
    """The context of rows in which only the modes of these labels occur."""
    wanted = sum((label == LABELS).float() for label in labels)
    return Context((wanted / wanted.sum()).expand(ROWS, -1))


def drawn(scale, passes="batched", costs=None, **head) -> torch.Tensor:
    """Chunks [ROWS, 2] for the label left, guided away from what is true of both."""
    guidance = None if scale == 1 else Unconditional(weights(0, 1), scale, passes)
    context = weights(0, 1) if scale == 0 else weights(0)
    generator = torch.Generator().manual_seed(0)
    request = SampleRequest(generator, guidance=None if scale == 0 else guidance, costs=costs)
    return head_of(**head).sample(context, request)[:, 0]


def compliance_and_entropy(chunks) -> tuple[float, float]:
    """The share of chunks at a mode of the label left; entropy over its modes, in their number."""
    nearest = torch.cdist(chunks, MODES).argmin(1)
    left = nearest[LABELS[nearest] == 0]
    shares = torch.bincount(left, minlength=2)[:2] / len(left)
    entropy = -float(torch.special.xlogy(shares, shares).sum()) / math.log(2)
    return len(left) / len(chunks), entropy


@pytest.mark.parametrize(
    ("scale", "compliance", "entropy"),
    [(0, 0.5, 1.0), (1, 1.0, 1.0), (2, 1.0, 0.76), (3, 1.0, 0.26), (5, 1.0, 0.0), (7, 1.0, 0.0)],
)
def test_with_exact_scores_the_label_is_kept_and_the_entropy_falls(scale, compliance, entropy):
    found = compliance_and_entropy(drawn(scale))
    assert found[0] == pytest.approx(compliance, abs=0.03)
    assert found[1] == pytest.approx(entropy, abs=0.04)


def test_at_usual_scales_both_ways_are_still_taken():
    assert compliance_and_entropy(drawn(1.5))[1] > 0.9


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_clipped_estimates_keep_the_label_and_more_of_the_entropy(scale):
    """With the published noise of a clipped estimate, fewer than a tenth would keep it at 3."""
    compliance, entropy = compliance_and_entropy(drawn(scale, clip_sample=True))
    assert compliance > 0.99
    assert entropy > 0.5


class MeanOfTokens(Denoiser):
    """The mean of the context's tokens that count. It prepares nothing."""

    def forward(self, x, time, context, residuals=()):
        counts = context.token_mask[..., None]
        return ((context.tokens * counts).sum(1) / counts.sum(1))[:, None].expand_as(x)


def test_each_of_two_passes_has_the_mask_of_its_own_rows():
    tokens = torch.tensor([[[1.0], [9.0]], [[2.0], [9.0]], [[3.0], [5.0]], [[4.0], [6.0]]])
    mask = torch.tensor([[1, 0], [1, 0], [1, 1], [1, 1]], dtype=torch.bool)
    context = Context(tokens=tokens, token_mask=mask)  # of two rows: with it, then without
    for passes in ("batched", "two"):
        guided = GuidedDenoiser(MeanOfTokens(), 2.0, passes)
        given = guided.prepare_context(context)
        found = guided.predict(torch.zeros(2, 1, 1), torch.zeros(1), given)
        assert found.flatten().tolist() == [-2.0, -1.0]  # 4 + 2 (1 - 4), 5 + 2 (2 - 5)


@pytest.mark.parametrize("process", ["vp", "flow", "edm"])
def test_two_passes_are_one_batched_pass(process):
    one, two = (drawn(2.0, passes, process=process, steps=8) for passes in ("batched", "two"))
    assert torch.allclose(one, two, atol=1e-5)


SMALL = Features({"agent_pos": Feature((2,)), "label": Feature((1,))}, Feature((2,), kind="action"))
PARTS = {
    "state": {"name": "state", "inputs": ["agent_pos"]},
    "label": {"name": "state", "inputs": ["label"]},
}


def policy_of(**guidance) -> Policy:
    torch.manual_seed(0)
    encoder = {"name": "join", "parts": PARTS}
    wanted = guidance or None
    policy = Policy(PolicyConfig(encoder, SMALL_UNET, guidance=wanted), SMALL, WINDOW)
    for null in policy.encoder.nulls.values():
        nn.init.normal_(null.vector)
    return policy.eval()


def predict(policy, observation, **options):
    return policy.predict(observation, torch.Generator().manual_seed(0), **options)


def test_scale_one_is_the_policy_itself_and_costs_one_evaluation_a_step():
    plain, guided = policy_of(), policy_of(dropout=0.1)
    guided.load_state_dict(plain.state_dict(), strict=False)
    observation = plain.fake_observation(3)
    sizes = []
    denoise = guided.head.denoiser.predict
    guided.head.denoiser.predict = lambda x, *rest: sizes.append(len(x)) or denoise(x, *rest)
    chunk = predict(guided, observation, guidance_scale=1.0)
    assert torch.equal(chunk, predict(plain, observation))
    assert sizes == [3] * 10


def test_scale_zero_is_the_policy_without_the_named_parts():
    policy = policy_of(parts=["label"])
    observation = policy.fake_observation(3)
    chunk = predict(policy, observation, guidance_scale=0.0)
    other_label = {**observation, "label": -observation["label"]}
    assert torch.equal(chunk, predict(policy, other_label, guidance_scale=0.0))
    elsewhere = {**observation, "agent_pos": -observation["agent_pos"]}
    assert not torch.equal(chunk, predict(policy, elsewhere, guidance_scale=0.0))
    assert not torch.equal(chunk, predict(policy, observation))


def test_a_scale_moves_the_chunk_away_from_the_unconditional_one():
    policy = policy_of(parts=["label"], scale=2.0)
    observation = policy.fake_observation(3)
    assert policy.guidance_scale == 2
    chunk = predict(policy, observation)
    assert torch.equal(chunk, predict(policy, observation, guidance_scale=2.0))
    policy.guidance_scale = 1.0
    assert not torch.allclose(chunk, predict(policy, observation))


def test_tokens_are_guided_beside_vectors():
    policy = make_policy(
        features(front=(32, 32)), token_dim=8, guidance={"dropout": 0.5, "scale": 2.0}
    )
    policy.loss(policy.fake_batch(8)).backward()
    assert policy.encoder.nulls["cameras"].token.grad is not None
    policy.eval()
    one = predict(policy, observation := policy.fake_observation(2))
    policy.guidance = policy.guidance.__class__(scale=2.0, passes="two")
    assert torch.allclose(one, predict(policy, observation), atol=1e-5)


def test_training_drops_so_many_rows_and_learns_the_null():
    policy = policy_of(dropout=0.3, parts=["label"]).train()
    seen = []
    loss = policy.head.loss
    policy.head.loss = lambda batch, context: seen.append(context) or loss(batch, context)
    policy.loss(policy.fake_batch(2000)).backward()
    null = policy.encoder.nulls["label"].vector
    # the label's numbers of both frames are joined by frame: [pos, pos, label] twice
    frames = seen[0].vector.view(2000, 2, 3)
    dropped = (frames[:, :, 2] == null.view(1, 2)).all(1)
    assert 0.26 < float(dropped.float().mean()) < 0.34
    assert null.grad.abs().sum() > 0
    policy.eval()
    policy.loss(policy.fake_batch(50))
    assert not (seen[1].vector.view(50, 2, 3)[:, :, 2] == null.view(1, 2)).any()


def test_guidance_that_cannot_be_is_refused():
    policy = policy_of()
    with pytest.raises(ConfigError, match="was not trained to do without"):
        predict(policy, policy.fake_observation(1), guidance_scale=2.0)
    with pytest.raises(ConfigError, match="no part 'labels', did you mean 'label'"):
        policy_of(parts=["labels"])
    with pytest.raises(ConfigError, match=r"guidance.dropout is 1.5"):
        policy_of(dropout=1.5)
    with pytest.raises(ConfigError, match=r"passes is 'bached', did you mean 'batched'"):
        policy_of(passes="bached")


# A ball on the second way of the left label, which half of the unguided chunks take.
BALL = Obstacle((-0.3, 0.1), radius=0.25, margin=0.2)


def collisions_and_distance(scale, **term) -> tuple[float, float]:
    """The share of chunks in the ball, and the mean distance to the nearest way."""
    chunks = drawn(1, costs=[CostTerm(BALL, scale, **term)], steps=20)
    inside = (chunks - MODES[1]).norm(dim=1) < BALL.radius
    return float(inside.float().mean()), float(torch.cdist(chunks, MODES).min(1).values.mean())


@pytest.mark.parametrize("inner_steps", [1, 4])
def test_an_obstacle_s_cost_halves_collisions_at_least_and_keeps_to_what_was_learned(inner_steps):
    before, distance_before = collisions_and_distance(0.0)
    after, distance_after = collisions_and_distance(10.0, inner_steps=inner_steps)
    assert before > 0.45
    assert after < before / 2
    assert distance_after < 1.2 * distance_before


def test_a_cost_of_scale_zero_or_stopped_everywhere_changes_no_bit():
    plain = drawn(1, steps=5)
    for term in (CostTerm(BALL, 0.0), CostTerm(BALL, 5.0, stop=1.0)):
        assert torch.equal(plain, drawn(1, steps=5, costs=[term]))


def test_costs_are_of_the_robot_s_numbers():
    policy = policy_of()
    policy.normalizers["action"].scale.fill_(0.5)  # normalised = 0.5 x + 1
    policy.normalizers["action"].offset.fill_(1.0)
    given = []

    def cost(chunk):
        given.append(chunk.detach())
        return chunk.square().sum((1, 2))

    chunk = predict(policy, policy.fake_observation(2), costs=[CostTerm(cost, 1e-6)])
    assert torch.allclose(given[-1], chunk, atol=1e-2)
    assert given[-1].min() >= -4
    assert given[-1].max() <= 0


def test_costs_and_guidance_compose_with_known_parts_and_a_start():
    policy = policy_of(parts=["label"], scale=2.0)
    observation = policy.fake_observation(2)
    values, mask = torch.full((2, 8, 2), 0.25), torch.zeros(2, 8, 2)
    mask[:, :3] = 1
    options = {"known": KnownChunk(values, mask), "init": (torch.zeros(2, 8, 2), 0.5)}
    chunk = predict(policy, observation, **options)
    assert torch.allclose(chunk[:, :3], values[:, :3], atol=1e-6)
    moved = predict(policy, observation, **options, costs=[CostTerm(BALL, 0.5)])
    assert torch.allclose(moved[:, :3], values[:, :3], atol=1e-6)


def test_costs_are_made_from_plain_values():
    term = CostTerm.from_dict(
        {"name": "obstacle", "centre": (1.0, 0.0), "radius": 0.5, "scale": 3.0, "stop": 0.1}
    )
    assert (term.scale, term.stop, term.inner_steps) == (3.0, 0.1, 1)
    chunk = torch.tensor([[[1.0, 0.25], [3.0, 0.0]], [[1.0, 0.5], [1.0, -0.5]]])
    assert term.cost(chunk).tolist() == pytest.approx([0.0625, 0.0], abs=1e-6)
    with pytest.raises(ConfigError, match="unknown cost 'obstacel', did you mean 'obstacle'"):
        CostTerm.from_dict({"name": "obstacel"})
    with pytest.raises(ConfigError, match="inner_steps are 0"):
        CostTerm(term.cost, inner_steps=0)


@pytest.mark.heavy
def test_an_export_has_its_scale_built_in(tmp_path):
    pytest.importorskip("onnxruntime")
    policy = policy_of(parts=["label"])
    set_guidance(policy, 2.0)
    policy.solver = solver_from({"name": "ddim", "steps": 2})
    export_policy(policy, "onnx", tmp_path / "export")
    exported = load_runnable(tmp_path / "export")
    observation, noise = policy.fake_observation(3), torch.randn(3, 8, 2)
    ours, theirs = (each.predict(observation, noise=noise) for each in (policy, exported))
    assert torch.allclose(ours, theirs, atol=1e-4)
    with pytest.raises(ConfigError, match=r"guidance_scale=3.0: .* part of it, 2"):
        load_runnable(tmp_path / "export", guidance_scale=3.0)


def test_costs_are_not_exported(tmp_path):
    policy = policy_of()
    set_guidance(policy, None, [{"name": "acceleration"}])
    with pytest.raises(ConfigError, match="costs need gradients, which exports lack"):
        export_policy(policy, "onnx", tmp_path / "export")


@pytest.mark.parametrize("rows", [1, 3])
def test_guidance_goes_on_from_a_trained_prefix(rows):
    torch.manual_seed(0)
    encoder = {"name": "join", "parts": PARTS}
    head = {"name": "diffusion", "prefix": {"probability": 0.5, "max_length": 4}}
    guidance = {"parts": ["label"], "scale": 2.0}
    denoiser = {"name": "dit", "width": 16, "depth": 1, "heads": 2}
    policy = Policy(PolicyConfig(encoder, denoiser, head=head, guidance=guidance), SMALL, WINDOW)
    nn.init.normal_(policy.head.denoiser.final.linear.weight)
    observation = policy.eval().fake_observation(rows)
    values, mask = torch.full((rows, 8, 2), 0.25), torch.zeros(rows, 8, 2)
    mask[:, :3] = 1
    known = KnownChunk(values, mask, InpaintingGuidance("prefix"))
    batched = predict(policy, observation, known=known)
    assert torch.equal(batched[:, :3], values[:, :3])
    policy.guidance = ClassifierFree(parts=("label",), scale=2.0, passes="two")
    assert torch.allclose(batched, predict(policy, observation, known=known), atol=1e-5)


def test_inner_steps_each_go_an_equal_part_of_the_way():
    """Half of a cost of x^2 / 2, whose gradient is x: at once to a half, in two steps to 9 / 16."""
    level = Level(0.0, 1.0, 1.0)  # the clean chunk's variance is 1 / 2
    ones = torch.ones(1, 2, 1)
    for steps, left in ((1, 0.5), (2, 0.5625), (4, 0.875**4)):
        term = CostTerm(lambda chunk: chunk.square().sum((1, 2)) / 2, inner_steps=steps)
        assert term.moved(ones, level).flatten().tolist() == pytest.approx([left, left])


def test_a_cost_stops_below_its_share_of_noise():
    term = CostTerm(lambda chunk: chunk.square().sum((1, 2)), stop=0.5)
    ones = torch.ones(1, 2, 1)
    assert not torch.equal(term.moved(ones, Level(0.0, 1.0, 1.0)), ones)
    assert not torch.equal(term.moved(ones, Level(0.0, 0.1, 0.2)), ones)
    assert torch.equal(term.moved(ones, Level(0.0, 1.0, 0.9)), ones)
