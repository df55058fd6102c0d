"""Solvers and their grids against literal numbers and against diffusers."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import ConfigError
from dipole.policy.core.components import PREDICTIONS, SOLVERS
from dipole.policy.diffusion.denoising import denoise, next_x
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.predictions import Estimate, NoisePrediction, clipped
from dipole.policy.diffusion.processes import EDM, Flow, VariancePreserving
from dipole.policy.diffusion.solvers import (
    DDIM,
    DDPM,
    DPMSolverPP3M,
    Euler,
    Heun,
    solver_from,
    solver_with,
    table_of,
)

PUBLISHED = VariancePreserving()
PROCESSES = [PUBLISHED, VariancePreserving(continuous=True), Flow(), EDM()]
EVERY_SOLVER = ["ddpm", "ddim", "euler", "heun", "plms", "dpmpp_2m", "dpmpp_3m"]
OF_DIFFUSERS = {"epsilon": "noise", "sample": "sample", "v_prediction": "v"}


def times_of(solver, process=PUBLISHED):
    return [level.time for level in solver.levels(process)[:-1]]


def test_ddpm_posterior_variance():
    by_time = {step.level.time: step for step in table_of(DDPM(), PUBLISHED)}
    assert by_time[1].fresh_noise ** 2 == pytest.approx(4.03489e-4, rel=1e-3)
    assert by_time[50].fresh_noise ** 2 == pytest.approx(0.0306044, rel=1e-4)
    assert by_time[0].fresh_noise == 0


@pytest.mark.parametrize(
    ("steps", "times"),
    [
        (16, list(range(90, -1, -6))),
        (10, list(range(90, -1, -10))),
        (8, [84, 72, 60, 48, 36, 24, 12, 0]),
    ],
)
def test_leading_spacing_of_100_levels(steps, times):
    assert times_of(DDIM(steps)) == times


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 3, 8, 10, 16, 24, 64, 99, 100])
def test_times_are_those_of_diffusers(scheduler, spacing, steps):
    theirs = scheduler(num_train_timesteps=100, timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    assert times_of(DDIM(steps, spacing)) == theirs.timesteps.tolist()


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_there_are_as_many_levels_as_steps_and_none_below_0(spacing):
    for steps in range(1, 101):
        times = times_of(DDIM(steps, spacing))
        assert len(times) == steps
        assert times == sorted(set(times), reverse=True)
        assert times[-1] >= 0


@pytest.mark.parametrize("steps", [2, 8, 30, 40, 51, 60, 70])
def test_leading_levels_that_begin_where_much_of_the_chunk_is_left_are_warned_of(steps):
    said = rf"{steps} steps.*'leading' begin at level .*trailing.* of 10, 20, 25, 50, 100$"
    with pytest.warns(UserWarning, match=said):
        DDIM(steps).levels(PUBLISHED)


@pytest.mark.filterwarnings("error")
def test_levels_that_begin_near_the_most_noise_are_not_warned_of():
    for steps in (10, 16, 20, 25, 50, 100):
        DDIM(steps).levels(PUBLISHED)
    for steps in (1, 4, 30, 60):
        DDIM(steps, "trailing").levels(PUBLISHED)
    DDIM(10).levels(VariancePreserving("linear"))  # whose last level has much of the chunk itself
    DDIM(10).levels(VariancePreserving(num_train_timesteps=1000))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["ddpm", "ddim"]),
    spacing=st.sampled_from(["leading", "trailing"]),
    steps=st.integers(1, 100),
    prediction=st.sampled_from(["epsilon", "sample", "v_prediction"]),
    schedule=st.sampled_from(["squaredcos_cap_v2", "linear", "scaled_linear"]),
    clip=st.booleans(),
    eta=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_every_step_is_that_of_diffusers(
    name, spacing, steps, prediction, schedule, clip, eta, seed
):
    theirs = (DDPMScheduler if name == "ddpm" else DDIMScheduler)(
        num_train_timesteps=100,
        beta_schedule=schedule,
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=clip,
        prediction_type=prediction,
        timestep_spacing=spacing,
    )
    theirs.set_timesteps(steps)
    # In double: near pure noise a clean estimate holds single precision's rounding 2,000 times
    # over, and at the other end 1 - alpha is near 1e-4.
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    read = PREDICTIONS[OF_DIFFUSERS[prediction]]()
    options = {"eta": eta} if name == "ddim" else {}
    solver = solver_from({"name": name, "steps": steps, "spacing": spacing, **options})
    table = table_of(solver, VariancePreserving(schedule))
    if name == "ddim" and spacing == "trailing" and 100 % steps:
        table = []  # diffusers' stride leads past the next level: see `DDIM`
    for number, step in enumerate(table):
        generator = torch.Generator().manual_seed(seed + number)
        x, output = torch.randn(2, 2, 4, 3, generator=generator).double().unbind()
        again = torch.Generator().manual_seed(seed + number)
        time = int(step.level.time)
        expected = theirs.step(output, time, x, generator=again, **options).prev_sample
        drawn = torch.Generator().manual_seed(seed + number)
        z = torch.randn(x.shape, generator=drawn, dtype=torch.float64)
        clean, noise = clipped(read.estimate(output, x, step.level), clip)
        ours = next_x(step, [x], [clean], [noise], z if step.fresh_noise > 0 else None)
        assert torch.allclose(ours, expected, atol=1e-5, rtol=1e-5), step


def test_shifted_times_lie_nearer_to_noise():
    shifted = [each.noise for each in Euler(4, "shifted", shift=3.0).levels(Flow())]
    assert shifted == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])


def test_linspace_spacing_is_refused():
    with pytest.raises(ConfigError, match=r"linspace.*choose uniform, leading or trailing"):
        DDIM(10, "linspace")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ddi"}, "did you mean 'ddim'"),
        ({"steps": 0}, "at least one"),
        ({"eta": 2.0}, "between 0 and 1"),
        ({"eta": "much"}, "solver.eta is 'much': a number is needed"),
        ({"name": "heun", "eta": 0.5}, "solver 'heun' has no option 'eta'. Known: steps, spacing"),
        ({"rho": 0.0}, "must be positive"),
    ],
)
def test_solvers_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        solver_from({"name": "ddim", **options})


def test_a_spacing_that_the_process_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(ConfigError, match=r"'leadin', did you mean 'leading'\?"):
        table_of(DDIM(10, "leadin"), PUBLISHED)
    with pytest.raises(ConfigError, match=r"'leading'.* this process has uniform, shifted"):
        table_of(DDIM(10, "leading"), Flow())


def test_more_steps_than_levels_are_refused():
    with pytest.raises(ConfigError, match=r"solver.steps is 200, but the policy knows 100"):
        table_of(DDIM(200), PUBLISHED)


def test_changes_of_a_solver_keep_the_rest_and_another_name_is_another_solver():
    before = DDIM(10, "trailing", eta=0.5)
    assert solver_with(before, {"name": None, "steps": 4}) == DDIM(4, "trailing", eta=0.5)
    assert solver_with(before, {"name": "heun", "steps": 4}) == Heun(4)
    assert solver_with(before, {"steps": None}) is before
    assert solver_from(before.to_dict()) == before


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("name", EVERY_SOLVER)
def test_every_row_ends_where_the_next_begins_and_the_last_is_clean(name, process):
    for steps in (1, 2, 3, 4, 5, 10, 50, 100):
        table = table_of(SOLVERS[name](steps), process)
        for step, after in pairwise(table):
            assert (step.next.signal, step.next.noise) == (after.level.signal, after.level.noise)
        assert (table[-1].next.signal, table[-1].next.noise) == (1.0, 0.0)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("name", EVERY_SOLVER)
def test_a_perfect_denoiser_leads_to_the_clean_chunk(name, process):
    """x must be at its level all the way, whatever the weights of the earlier evaluations."""
    for steps in (1, 2, 3, 4, 7, 10, 50):
        clean = torch.rand(3, 8, 2, dtype=torch.float64) * 1.8 - 0.9
        table = table_of(SOLVERS[name](steps), process)
        noise = torch.randn(3, 8, 2, dtype=torch.float64)

        def perfect(level, clean=clean):
            return lambda x: Estimate(clean, (x - level.signal * clean) / level.noise)

        found = denoise(
            [perfect(step.level) for step in table],
            table[0].level.mix(clean, noise),
            table,
            lambda: torch.randn(3, 8, 2, dtype=torch.float64),
        )
        assert torch.allclose(found, clean, atol=1e-6), steps


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "plms", "dpmpp_2m", "dpmpp_3m"])
def test_a_gaussian_is_sampled_exactly_in_the_limit(name, process):
    """Of N(m, s²) the probability-flow ODE takes x to m + s (x - signal m) / std(x)."""
    m, s = 0.3, 0.2
    table = table_of(SOLVERS[name](100), process)
    first = table[0].level
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = first.mix(torch.full_like(noise, m), noise)

    def exact(level):
        variance = (level.signal * s) ** 2 + level.noise**2

        def estimate(x):
            residual = x - level.signal * m
            clean = m + level.signal * s**2 / variance * residual
            return Estimate(clean, level.noise / variance * residual)

        return estimate

    found = denoise([exact(step.level) for step in table], x, table, lambda: pytest.fail("fresh"))
    std = math.sqrt((first.signal * s) ** 2 + first.noise**2)
    right = m + s * (x - first.signal * m) / std
    within = {"ddim": 0.02, "euler": 0.02, "heun": 4e-3}.get(name, 3e-3)
    assert torch.allclose(found, right, atol=within)


def test_heun_evaluates_twice_a_step_but_once_in_the_last():
    assert len(table_of(Heun(8), EDM())) == 15


def test_a_row_has_at_most_four_terms_of_each_kind():
    for name in EVERY_SOLVER:
        for process in PROCESSES:
            for step in table_of(SOLVERS[name](20), process):
                for factors in (step.from_x, step.from_clean, step.from_noise):
                    assert sum(factor != 0 for factor in factors) <= 4


def test_third_order_falls_to_first_at_both_ends():
    depths = [len(step.from_clean) for step in table_of(DPMSolverPP3M(6), PUBLISHED)]
    assert depths == [1, 2, 3, 3, 2, 1]


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_with_right_predictions_ddim_leaves_no_noise_whatever_the_steps(spacing):
    for steps in range(1, 101):
        x = torch.randn(500, dtype=torch.double)
        for step in table_of(DDIM(steps, spacing), PUBLISHED):
            noise = (x - step.level.signal * 0.5) / step.level.noise
            x = next_x(step, [x], [torch.full_like(x, 0.5)], [noise], None)
        assert (x - 0.5).abs().max() < 1e-6


def zeros(level):
    """A network that predicts no noise."""
    return lambda x: NoisePrediction().estimate(torch.zeros_like(x), x, level)


def test_known_parts_of_a_chunk_come_out_exactly():
    values, mask = torch.rand(2, 8, 2), torch.zeros(2, 8, 2, dtype=torch.bool)
    mask[:, :3] = True
    table = table_of(DDIM(10), PUBLISHED)
    seen = []

    def watched(level):
        def estimate(x):
            seen.append(x)
            return zeros(level)(x)

        return estimate

    noise = torch.randn(2, 8, 2)
    estimators = [watched(step.level) for step in table]
    known = KnownChunk(values, mask)
    found = denoise(estimators, noise, table, lambda: None, clip=True, known=known)
    assert torch.equal(found[:, :3], values[:, :3])
    assert not torch.allclose(found[:, 3:], values[:, 3:])
    assert torch.allclose(seen[-1][:, :3], values[:, :3], atol=0.5)  # nearly clean before the end


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("name", ["ddim", "ddpm", "heun", "dpmpp_2m"])
def test_every_evaluation_has_the_known_parts_at_its_own_level(name, strength):
    """Also the first one, and where sampling begins from a given chunk, here of -1: that is no
    noise with which a known part could be noised."""
    solver = SOLVERS[name](50)
    levels = solver.levels(PUBLISHED)
    table = solver.table(levels[50 - round(strength * 50) :])
    noise = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    chunk = torch.full_like(noise, -1.0)
    x = noise if strength == 1 else table[0].level.mix(chunk, noise)
    known = KnownChunk(torch.full_like(noise, 0.5), torch.tensor([1, 0]).expand(5000, 2))
    seen = []

    def watched(level):
        def estimate(at):
            seen.append(at)
            return zeros(level)(at)

        return estimate

    def draw():
        return torch.randn(5000, 2)

    estimators = [watched(step.level) for step in table]
    found = denoise(estimators, x, table, draw, known=known, noise=noise)
    assert (found[:, 0] == 0.5).all()
    assert len(seen) == len(table)
    for step, at in zip(table, seen, strict=True):
        assert float(at[:, 0].mean()) == pytest.approx(0.5 * step.level.signal, abs=0.05)
        assert float(at[:, 0].std()) == pytest.approx(step.level.noise, abs=0.05)


def test_without_steps_known_parts_replace_those_of_the_given_chunk():
    known = KnownChunk(torch.full((1, 2), 0.5), torch.tensor([[1, 0]]))
    chunk = torch.full((1, 2), -1.0)
    found = denoise([], chunk, [], lambda: None, known=known, noise=torch.randn(1, 2))
    assert found.tolist() == [[0.5, -1.0]]
