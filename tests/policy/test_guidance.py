"""Known parts of a chunk: what is frozen, what is pulled; where nothing is known, no change."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.denoising import denoise
from dipole.policy.diffusion.guidance import InpaintingGuidance, prefix_weights
from dipole.policy.diffusion.known import KnownChunk, guided_estimate
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate, SamplePrediction
from dipole.policy.diffusion.processes import Flow, VariancePreserving
from dipole.policy.diffusion.solvers import (
    DDIM,
    PLMS,
    Euler,
    Heun,
    Jump,
    SolverStep,
    table_of,
)

PUBLISHED = VariancePreserving()
STEP = SolverStep(Level(50.0, 0.6, 0.8), Level(40.0, 0.8, 0.6))
TABLE = table_of(DDIM(10), PUBLISHED)
IDENTITY = InpaintingGuidance("identity", None, 0.2)
FORMS = [IDENTITY, InpaintingGuidance("jacobian", None, 0.2), InpaintingGuidance()]


def wavy(x):
    """A clean chunk that depends on x in no simple way, each entry on its neighbours too."""
    return torch.tanh(x + 0.5 * x.roll(1, dims=1)) - 0.3 * x.flip(2).sin()


def says(predict, step):
    """An estimator whose network predicts the clean chunk."""
    return lambda x: SamplePrediction().estimate(predict(x), x, step.level)


def guided(predict, x, known, clip=False):
    return guided_estimate(says(predict, STEP), x, STEP, clip, known)


def sampled(known=None, predict=wavy, table=TABLE, rows=3):
    noise = torch.randn(rows, 8, 2, generator=torch.Generator().manual_seed(0))
    estimators = [says(predict, step) for step in table]
    return denoise(estimators, noise, table, lambda: None, known=known)


@pytest.mark.parametrize("guidance", [*FORMS, InpaintingGuidance("replace")])
def test_where_nothing_is_known_nothing_changes_bit_for_bit(guidance):
    known = KnownChunk(torch.rand(3, 8, 2), torch.zeros(3, 8, 2), guidance)
    assert torch.equal(sampled(known), sampled())


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_a_frozen_prefix_is_kept(solver):
    values, mask = torch.rand(3, 8, 2) * 2 - 1, torch.zeros(3, 8, 2)
    mask[:, :3] = 1.0
    table = table_of(SOLVERS[solver](10), PUBLISHED)
    z = torch.Generator().manual_seed(1)
    found = denoise(
        [says(wavy, step) for step in table],
        torch.randn(3, 8, 2, generator=z),
        table,
        lambda: torch.randn(3, 8, 2, generator=z),
        known=KnownChunk(values, mask, IDENTITY),
    )
    assert (found[:, :3] - values[:, :3]).abs().max() < 0.02
    assert (found[:, 3:] - values[:, 3:]).abs().max() > 0.3


def test_the_weight_is_the_papers():
    # tau = 1/2: 1/1 + 1/1; tau = 1/10: 1/9 + 9
    assert InpaintingGuidance("jacobian", 100.0, 1.0).weight(0.5, 0.5, 0.6, 0.4) == pytest.approx(
        2.0
    )
    assert InpaintingGuidance("jacobian", 100.0, 1.0).weight(0.1, 0.9, 0.2, 0.8) == pytest.approx(
        1 / 9 + 9
    )
    assert InpaintingGuidance("jacobian", 5.0, 1.0).weight(0.1, 0.9, 0.2, 0.8) == 5.0
    # Narrow data: what is known counts more at high noise, 9 / 0.2^2.
    narrow = InpaintingGuidance("identity", 1e3, 0.2)
    assert narrow.weight(0.1, 0.9, 0.101, 0.899) == pytest.approx(1 / 9 + 225)
    assert narrow.weight(0.1, 0.9, 0.2, 0.8) == pytest.approx(10)  # the whole difference
    # A variance-preserving step is the same one at another scale.
    assert InpaintingGuidance("jacobian", 100.0, 1.0).weight(0.6, 0.8, 0.8, 0.6) == pytest.approx(
        0.75 + 1 / 0.75
    )


def test_the_solvers_own_clip_is_the_number_of_equal_steps():
    assert IDENTITY.weight(0.0, 1.0, 0.1, 0.9) == pytest.approx(10.0)
    assert IDENTITY.weight(0.1, 0.9, 0.3, 0.7) == pytest.approx(5.0)


@pytest.mark.parametrize("solver", [Heun, PLMS])
@pytest.mark.parametrize("process", [PUBLISHED, Flow()])
def test_a_row_that_makes_a_step_again_is_clipped_by_the_length_of_that_step(solver, process):
    """Where it ends the network is evaluated: from there to there no step has a length."""
    levels = solver(10).levels(process)
    times = [level.signal / (level.signal + level.noise) for level in levels]
    lengths = {
        after: 1 / (b - a) for a, b, after in zip(times, times[1:], levels[1:], strict=False)
    }
    guidance = InpaintingGuidance("identity", None, 0.05)
    for step in solver(10).table(levels):
        x, ones = torch.zeros(1, 2, 1).double(), torch.ones(1, 2, 1).double()
        change = guided_estimate(
            lambda x: Estimate(x, x), x, step, False, KnownChunk(ones, ones, guidance)
        ).clean
        weight = change * (step.level.signal + step.level.noise) / step.level.noise
        assert float(weight.max()) <= lengths[step.next] * (1 + 1e-6)


@pytest.mark.parametrize("guidance", FORMS)
def test_clean_chunk_and_noise_still_make_up_the_sample(guidance):
    x, known = torch.randn(3, 8, 2), KnownChunk(torch.rand(3, 8, 2), torch.rand(3, 8, 2), guidance)
    clean, noise = guided(wavy, x, known)
    assert torch.allclose(0.6 * clean + 0.8 * noise, x, atol=1e-5)
    assert not torch.allclose(clean, wavy(x), atol=1e-2)


def test_through_a_denoiser_whose_jacobian_is_the_identity_both_forms_are_the_same():
    def shifted(x):
        return x / (0.6 + 0.8) + 0.25  # the paper's scale of x

    x, values, mask = torch.randn(3, 8, 2), torch.rand(3, 8, 2), torch.rand(3, 8, 2)
    found = [
        guided(shifted, x, KnownChunk(values, mask, InpaintingGuidance(form)))
        for form in ("identity", "jacobian")
    ]
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


def test_through_a_linear_denoiser_the_pull_is_that_of_its_transpose():
    matrix = torch.randn(8, 8, dtype=torch.double)

    def linear(x):
        return torch.einsum("ij,bja->bia", matrix, x) / 1.4

    x, values, mask = torch.rand(3, 3, 8, 2, dtype=torch.double).unbind()
    guidance = InpaintingGuidance("jacobian", max_weight=2.0)
    clean, _ = guided(linear, x, KnownChunk(values, mask, guidance))
    pull = torch.einsum("ij,bia->bja", matrix, mask * (values - linear(x)))
    assert torch.allclose(clean, linear(x) + 0.8 / 1.4 * 2.0 * pull)


def test_the_jacobian_is_the_derivative():
    x, values, mask = torch.rand(3, 2, 8, 2, dtype=torch.double).unbind()
    guidance = InpaintingGuidance("jacobian", max_weight=1.0)
    clean, _ = guided(wavy, x, KnownChunk(values, mask, guidance))
    pull = (clean - wavy(x)) * 1.4 / 0.8
    error, small = mask * (values - wavy(x)), 1e-6
    for entry in ((0, 0, 0), (1, 4, 1), (1, 7, 0)):
        moved = x.clone()
        moved[entry] += small
        slope = 1.4 * ((wavy(moved) - wavy(x)) / small * error).sum()
        assert float(pull[entry]) == pytest.approx(float(slope), abs=1e-4)


def test_a_clipped_clean_chunk_is_still_pulled():
    x, values, mask = torch.full((1, 8, 2), 4.0), torch.zeros(1, 8, 2), torch.ones(1, 8, 2)
    for form in ("identity", "jacobian"):
        known = KnownChunk(values, mask, InpaintingGuidance(form, max_weight=1.0))
        clean, _ = guided(lambda x: x, x, known, clip=True)
        assert (clean < 1.0).all()  # from 1, where 4 was clipped to


@given(
    solver=st.sampled_from([Jump, DDIM, Euler, Heun]),
    steps=st.integers(1, 12),
    gamma=st.floats(0, 1),
    max_weight=st.none() | st.floats(0.1, 50),
    data_std=st.floats(0.05, 5),
    process=st.sampled_from([VariancePreserving, Flow]),
)
def test_few_steps_never_move_a_chunk_beyond_what_is_known(
    solver, steps, gamma, max_weight, data_std, process
):
    """With one jump and the paper's weight of 5 it was moved by five times the difference."""
    drawer = solver(steps, gamma=gamma) if solver is Jump else solver(steps)
    table = table_of(drawer, process())
    clean = torch.linspace(-0.9, 0.9, 16).view(1, 8, 2)
    values, mask = -clean.roll(3, 1), torch.zeros(1, 8, 2)
    mask[:, :4] = 1
    known = KnownChunk(values, mask, InpaintingGuidance("identity", max_weight, data_std))
    found = sampled(known, clean.expand_as, table, rows=1)
    low, high = torch.minimum(clean, values), torch.maximum(clean, values)
    assert (found >= low - 1e-3).all()
    assert (found <= high + 1e-3).all()
    assert torch.allclose(found[:, 4:], clean[:, 4:], atol=1e-3)


def test_one_jump_takes_over_what_is_known_and_stays_within_the_clip():
    values, mask = torch.full((3, 8, 2), 0.8), torch.zeros(3, 8, 2)
    mask[:, :4] = 1
    table = table_of(Jump(1), Flow())
    for form in ("identity", "jacobian"):
        known = KnownChunk(values, mask, InpaintingGuidance(form))
        estimators = [says(lambda x: 9 * wavy(x), step) for step in table]
        noise = torch.randn(3, 8, 2)
        found = denoise(estimators, noise, table, lambda: None, clip=True, known=known)
        assert found.abs().max() <= 1
        if form == "identity":
            assert torch.allclose(found[:, :4], values[:, :4], atol=1e-5)


def test_the_identity_form_keeps_a_mode_that_replacement_loses():
    """Two ways round an obstacle: both begin alike, so that what is frozen does not tell which."""
    rows, height = 2000, 0.5
    way = height * torch.sin(torch.pi * torch.arange(16) / 15)[:, None]

    def denoiser(step):
        signal = step.level.signal
        spread = signal**2 * 0.01 + step.level.noise**2

        def predict(x):
            side = torch.tanh(signal * (x * way).sum((1, 2), keepdim=True) / spread)
            return side * way + signal * 0.01 / spread * (x - signal * side * way)

        return predict

    def kept(guidance):
        generator = torch.Generator().manual_seed(0)
        weights = torch.tensor(prefix_weights(4, 12, 16))[None, :, None].float()
        known = KnownChunk(way.expand(rows, 16, 1), weights.expand(rows, 16, 1), guidance)
        noise = torch.randn(rows, 16, 1, generator=generator)
        estimators = [says(denoiser(step), step) for step in TABLE]
        found = denoise(estimators, noise, TABLE, lambda: None, known=known)
        return float(((found * way).sum((1, 2)) > 0).float().mean())

    assert kept(InpaintingGuidance("replace")) < 0.6
    assert kept(InpaintingGuidance()) > 0.75
    assert kept(IDENTITY) > 0.99


def test_the_soft_mask_is_the_papers():
    # d = 2 frozen, 4 known of 6: c = 2/3, 1/3; c (e^c - 1) / (e - 1)
    expected = [1, 1, 2 / 3 * np.expm1(2 / 3) / np.expm1(1), 1 / 3 * np.expm1(1 / 3) / np.expm1(1)]
    assert prefix_weights(2, 4, 6).tolist() == pytest.approx([*expected, 0, 0])
    assert prefix_weights(2, 4, 6, "none").tolist() == [1, 1, 1, 1, 0, 0]
    assert prefix_weights(2, 4, 6, "hard").tolist() == [1, 1, 0, 0, 0, 0]


def test_no_more_is_frozen_than_is_known():
    assert prefix_weights(9, 3, 5).tolist() == [1, 1, 1, 0, 0]
    assert prefix_weights(9, 9, 5).tolist() == [1, 1, 1, 1, 1]
    assert prefix_weights(0, 0, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "identiy"}, "did you mean 'identity'"),
        ({"max_weight": 0.0}, "max_weight is 0.0; it must be a positive number"),
        ({"data_std": float("nan")}, "data_std is nan"),
    ],
)
def test_guidance_that_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        InpaintingGuidance(**options)
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        prefix_weights(1, 2, 3, "liner")


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    features = Features({"state": Feature((5,))}, Feature((2,), kind="action"))
    denoiser = {"name": "unet1d", "down_dims": [16, 32], "time_embed_dim": 16}
    head = {"name": "diffusion", "solver": {"name": "ddim", "steps": 4}}
    return Policy(PolicyConfig(denoiser=denoiser, head=head), features, WindowSpec()).eval()


@pytest.mark.parametrize("outside", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("form", ["replace", "identity", "jacobian"])
def test_a_policy_goes_on_from_what_is_known(policy, form, outside):
    observation, noise = policy.fake_observation(2), torch.randn(2, 16, 2)
    free = policy.predict(observation, noise=noise)
    mask = torch.zeros(2, 16, 2)
    mask[:, :6] = 1.0
    known = KnownChunk(free + 0.3, mask, InpaintingGuidance(form))
    with outside():
        found = policy.predict(observation, noise=noise, known=known)
    before = (free - known.values)[:, :6].abs().mean()
    assert (found - known.values)[:, :6].abs().mean() < 0.7 * before
    assert all(parameter.grad is None for parameter in policy.parameters())


@pytest.mark.parametrize("form", ["identity", "jacobian"])
def test_a_policy_with_nothing_known_is_the_same_bit_for_bit(policy, form):
    observation, noise = policy.fake_observation(1), torch.randn(1, 16, 2)
    known = KnownChunk(torch.rand(1, 16, 2), torch.zeros(1, 16, 2), InpaintingGuidance(form))
    free = policy.predict(observation, noise=noise)
    assert torch.equal(policy.predict(observation, noise=noise, known=known), free)


def test_costs_beside_known_parts_leave_the_estimate_outside_of_the_limits():
    """It says where to go, not where to be: clipped to 1, a known part would pull no further."""
    level, after = Level(50.0, 0.8, 0.6), Level(0.0, 1.0, 0.0)
    step = SolverStep(level, after, from_clean=(1.0,))
    x, clean = torch.zeros(1, 2, 1), torch.ones(1, 2, 1)
    known = KnownChunk(torch.full((1, 2, 1), 3.0), torch.ones(1, 2, 1), IDENTITY)
    cost = CostTerm(lambda chunk: chunk.square().sum((1, 2)), scale=1e-6)

    def run(costs):
        estimate = lambda x: Estimate(clean, torch.zeros_like(x))  # noqa: E731
        return denoise([estimate], x, [step], lambda: x, clip=True, known=known, costs=costs)

    assert float(run([]).min()) > 1.1
    assert torch.allclose(run([cost]), run([]), atol=1e-4)
