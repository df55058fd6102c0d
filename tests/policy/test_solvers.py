"""Noise schedule and solvers against PARITY's literal numbers and against diffusers."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import ConfigError
from dipole.policy.diffusion.schedules import ScheduleConfig, add_noise, cumulative_alphas
from dipole.policy.diffusion.solvers import (
    Known,
    SolverConfig,
    denoise,
    denoising_times,
    next_sample,
    solver_step,
    solver_table,
)

SQUARED_COSINE = ScheduleConfig()


def test_squared_cosine_schedule():
    alphas = cumulative_alphas(SQUARED_COSINE).double()
    betas = 1 - alphas / torch.cat([torch.ones(1, dtype=torch.double), alphas[:-1]])
    expected = {0: 0.99936872, 50: 0.47826463, 98: 2.4285723e-4, 99: 2.4285723e-7}
    for time, kept in expected.items():
        assert float(alphas[time]) == pytest.approx(kept, rel=2e-5)  # single precision
    for time, beta in {0: 0.00063128, 50: 0.03154634, 99: 0.999}.items():
        assert float(betas[time]) == pytest.approx(beta, abs=1e-6)


def test_ddpm_posterior_variance():
    table = solver_table(SolverConfig("ddpm", 100), cumulative_alphas(SQUARED_COSINE))
    by_time = {step.time: step for step in table}
    assert by_time[1].fresh ** 2 == pytest.approx(4.03489e-4, rel=1e-3)
    assert by_time[50].fresh ** 2 == pytest.approx(0.0306044, rel=1e-4)
    assert by_time[0].fresh == 0


@pytest.mark.parametrize(
    ("steps", "times"),
    [
        (16, list(range(90, -1, -6))),
        (10, list(range(90, -1, -10))),
        (8, [84, 72, 60, 48, 36, 24, 12, 0]),
    ],
)
def test_leading_spacing_of_100_levels(steps, times):
    assert denoising_times(SolverConfig("ddim", steps), 100) == times


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 3, 8, 10, 16, 24, 64, 99, 100])
def test_times_are_those_of_diffusers(scheduler, spacing, steps):
    theirs = scheduler(num_train_timesteps=100, timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    ours = denoising_times(SolverConfig("ddim", steps, spacing), 100)
    assert ours == theirs.timesteps.tolist()


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_there_are_as_many_levels_as_steps_and_none_below_0(spacing):
    for steps in range(1, 101):
        times = denoising_times(SolverConfig("ddim", steps, spacing), 100)
        assert len(times) == steps
        assert times == sorted(set(times), reverse=True)
        assert times[-1] >= 0


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
    config = ScheduleConfig(schedule, 100, prediction, clip)
    table = solver_table(SolverConfig(name, steps, spacing, eta), cumulative_alphas(config))
    options = {"eta": eta} if name == "ddim" else {}
    if name == "ddim" and spacing == "trailing" and 100 % steps:
        table = []  # diffusers' stride leads past the next level: see `ddim`
    for number, step in enumerate(table):
        generator = torch.Generator().manual_seed(seed + number)
        x, predicted = torch.randn(2, 2, 4, 3, generator=generator).double().unbind()
        again = torch.Generator().manual_seed(seed + number)
        expected = theirs.step(predicted, step.time, x, generator=again, **options).prev_sample
        drawn = torch.Generator().manual_seed(seed + number)
        z = torch.randn(x.shape, generator=drawn, dtype=torch.float64)
        ours = solver_step(x, predicted, step, config, z if step.fresh > 0 else None)
        assert torch.allclose(ours, expected, atol=1e-5, rtol=1e-5), step


def test_forward_process_is_that_of_diffusers():
    clean, noise = torch.randn(2, 5, 4, 3).unbind()
    time = torch.tensor([0, 1, 50, 98, 99])
    theirs = DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    ours = add_noise(clean, noise, time, cumulative_alphas(SQUARED_COSINE))
    assert torch.allclose(ours, theirs.add_noise(clean, noise, time), atol=1e-6)


def test_linspace_spacing_is_refused():
    with pytest.raises(ConfigError, match=r"linspace.*choose leading or trailing"):
        SolverConfig("ddim", 10, "linspace")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ddi"}, "did you mean 'ddim'"),
        ({"steps": 0}, "at least one"),
        ({"eta": 2.0}, "between 0 and 1"),
        ({"spacing": "logarithmic"}, "unknown spacing"),
    ],
)
def test_solvers_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SolverConfig(**options)


def test_more_steps_than_levels_are_refused():
    with pytest.raises(ConfigError, match=r"solver.steps is 200, but the policy knows 100"):
        denoising_times(SolverConfig("ddim", 200), 100)


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear", "scaled_linear"])
@pytest.mark.parametrize("n_steps", [2, 10, 100, 1000])
def test_schedules_are_those_of_diffusers_to_the_last_bit(schedule, n_steps):
    config = ScheduleConfig(schedule, n_steps, beta_start=0.00085, beta_end=0.012)
    theirs = DDPMScheduler(n_steps, beta_start=0.00085, beta_end=0.012, beta_schedule=schedule)
    assert torch.equal(cumulative_alphas(config), theirs.alphas_cumprod)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_every_step_ends_where_the_next_begins_and_the_last_at_0(name, spacing, eta):
    for steps in range(1, 101):
        config = SolverConfig(name, steps, spacing, eta)
        table = solver_table(config, cumulative_alphas(SQUARED_COSINE))
        for step, after in pairwise(table):
            assert (step.next_alpha, step.next_sigma) == (after.alpha, after.sigma)
        assert (table[-1].next_alpha, table[-1].next_sigma) == (1.0, 0.0)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_with_right_predictions_ddim_leaves_no_noise_whatever_the_steps(spacing):
    alphas = cumulative_alphas(SQUARED_COSINE)
    for steps in range(1, 101):
        x = torch.randn(500, dtype=torch.double)
        for step in solver_table(SolverConfig("ddim", steps, spacing), alphas):
            noise = (x - step.alpha * 0.5) / step.sigma
            x = next_sample(x, torch.full_like(x, 0.5), noise, step, None)
        assert (x - 0.5).abs().max() < 1e-6


def perfect_denoiser(clean, config):
    """Knows the clean chunk, and says the noise that leads from it to x."""
    alphas = cumulative_alphas(config)

    def predict(x, time):
        kept = alphas[time].view(-1, 1, 1)
        return (x - kept.sqrt() * clean) / (1 - kept).sqrt()

    return predict


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_a_perfect_denoiser_leads_to_the_clean_chunk(name):
    clean = torch.rand(3, 8, 2) * 1.8 - 0.9
    table = solver_table(SolverConfig(name, 10), cumulative_alphas(SQUARED_COSINE))
    noise = torch.randn(3, 8, 2)
    denoiser = perfect_denoiser(clean, SQUARED_COSINE)
    found = denoise(
        [partial(denoiser, time=torch.tensor([step.time])) for step in table],
        noise,
        table,
        SQUARED_COSINE,
        lambda: torch.randn(3, 8, 2),
    )
    assert torch.allclose(found, clean, atol=1e-3)


def test_known_parts_of_a_chunk_come_out_exactly():
    values, mask = torch.rand(2, 8, 2), torch.zeros(2, 8, 2, dtype=torch.bool)
    mask[:, :3] = True
    table = solver_table(SolverConfig("ddim", 10), cumulative_alphas(SQUARED_COSINE))
    seen = []

    def predict(x):
        seen.append(x)
        return torch.zeros_like(x)

    noise = torch.randn(2, 8, 2)
    found = denoise([predict] * 10, noise, table, SQUARED_COSINE, lambda: None, Known(values, mask))
    assert torch.equal(found[:, :3], values[:, :3])
    assert not torch.allclose(found[:, 3:], values[:, 3:])
    assert torch.allclose(seen[-1][:, :3], values[:, :3], atol=0.5)  # nearly clean before the end


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_every_prediction_is_asked_for_at_the_known_parts_own_level(name, strength):
    """Also the first one, and where sampling begins from a given chunk, here of -1: that is no
    noise with which a known part could be noised."""
    config = ScheduleConfig(clip_sample=False)
    table = solver_table(SolverConfig(name, 50), cumulative_alphas(config))
    table = table[len(table) - round(strength * len(table)) :]
    noise = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    chunk = torch.full_like(noise, -1.0)
    x = noise if strength == 1 else table[0].alpha * chunk + table[0].sigma * noise
    known = Known(torch.full_like(noise, 0.5), torch.tensor([1, 0]).expand(5000, 2))
    seen = []

    def predict(at):
        seen.append(at)
        return torch.zeros_like(at)

    def draw():
        return torch.randn(5000, 2)

    found = denoise([predict] * len(table), x, table, config, draw, known, noise)
    assert (found[:, 0] == 0.5).all()
    assert len(seen) == len(table)
    for step, at in zip(table, seen, strict=True):
        assert float(at[:, 0].mean()) == pytest.approx(0.5 * step.alpha, abs=0.05)
        assert float(at[:, 0].std()) == pytest.approx(step.sigma, abs=0.05)


def test_without_steps_known_parts_replace_those_of_the_given_chunk():
    known = Known(torch.full((1, 2), 0.5), torch.tensor([[1, 0]]))
    chunk = torch.full((1, 2), -1.0)
    found = denoise([], chunk, [], SQUARED_COSINE, lambda: None, known, torch.randn(1, 2))
    assert found.tolist() == [[0.5, -1.0]]
