"""Noise schedule and solvers against PARITY's literal numbers and against diffusers."""

from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import ConfigError
from dipole.policy.schedules import ScheduleConfig, add_noise, cumulative_alphas
from dipole.policy.solvers import (
    Known,
    SolverConfig,
    denoise,
    denoising_times,
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
    if schedule != "squaredcos_cap_v2":
        # 1 - alpha of these schedules is near 1e-4: diffusers' single precision loses it, ours not.
        theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    config = ScheduleConfig(schedule, 100, prediction, clip)
    table = solver_table(SolverConfig(name, steps, spacing, eta), cumulative_alphas(config))
    options = {"eta": eta} if name == "ddim" else {}
    for number, step in enumerate(table):
        generator = torch.Generator().manual_seed(seed + number)
        x, predicted = torch.randn(2, 2, 4, 3, generator=generator).unbind()
        again = torch.Generator().manual_seed(seed + number)
        expected = theirs.step(predicted, step.time, x, generator=again, **options).prev_sample
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + number))
        ours = solver_step(x, predicted, step, config, z if step.fresh > 0 else None)
        assert torch.allclose(ours, expected.float(), atol=1e-5, rtol=1e-5), step


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
