"""Whole runs are those of diffusers' schedulers, with a perfect network for a mixture.

Compared on levels that diffusers has too, and with its last step going to no noise at all.
"""

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)

from dipole.policy.diffusion.analytic import GaussianMixture
from dipole.policy.diffusion.processes import EDM, VariancePreserving
from dipole.policy.diffusion.solvers import (
    DDIM,
    PLMS,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    Heun,
    table_of,
)

MIXTURE = GaussianMixture.of([[-0.5, -0.3], [0.5, 0.3], [0.1, -0.6]], 0.2)
VP = VariancePreserving(num_train_timesteps=1000)
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
STEPS = 10  # fewer than 15, where diffusers lowers the order of the last steps


@pytest.fixture
def noise():
    return torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def double(scheduler):
    """With its tables in double precision, as ours are."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    return scheduler


def exact_noise(x, time):
    level = VP.level(torch.tensor(float(time), dtype=torch.float64))
    return MIXTURE.estimate(x, type(level)(time, float(level.signal), float(level.noise))).noise


def test_plms_is_pndm_without_runge_kutta_steps(noise):
    theirs = PNDMScheduler(
        **SCHEDULE, skip_prk_steps=True, set_alpha_to_one=True, timestep_spacing="leading"
    )
    double(theirs).set_timesteps(STEPS)
    x = noise
    for time in theirs.timesteps:
        # The first step's second half is told the time of its end, as ours.
        x = theirs.step(exact_noise(x, time), time, x).prev_sample
    assert len(theirs.timesteps) == len(table_of(PLMS(STEPS), VP)) == STEPS + 1
    torch.testing.assert_close(MIXTURE.solve(PLMS(STEPS), VP, noise), x, rtol=0, atol=2e-6)


OF_DPM_SOLVER = {
    "first order": (1, DDIM(STEPS, "trailing")),
    "first order, sde": (1, DDIM(STEPS, "trailing", eta=1.0)),
    "2m": (2, DPMSolverPP2M(STEPS, "trailing")),
    "2m, sde": (2, DPMSolverPP2M(STEPS, "trailing", sde=True)),
    "3m": (3, DPMSolverPP3M(STEPS, "trailing", published=True)),
    # Not the third order's SDE: diffusers subtracts the half that k-diffusion, rightly, adds.
}


@pytest.mark.parametrize("name", OF_DPM_SOLVER)
def test_dpm_solver_is_that_of_diffusers(name, noise):
    order, ours = OF_DPM_SOLVER[name]
    sde = "sde" in name
    theirs = DPMSolverMultistepScheduler(
        **SCHEDULE,
        solver_order=order,
        algorithm_type="sde-dpmsolver++" if sde else "dpmsolver++",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    theirs.set_timesteps(STEPS)
    # Its own levels are kept in single precision.
    theirs.sigmas = torch.tensor([level.noise / level.signal for level in ours.levels(VP)]).double()
    assert [float(time) for time in theirs.timesteps] == [s.level.time for s in table_of(ours, VP)]
    drawn = torch.randn(STEPS, 64, 2, dtype=torch.float64)
    x = noise
    for time, z in zip(theirs.timesteps, drawn, strict=True):
        x = theirs.step(exact_noise(x, time), time, x, variance_noise=z).prev_sample
    again = iter(drawn)
    found = MIXTURE.solve(ours, VP, noise, lambda: next(again))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("scheduler", "solver"), [(EulerDiscreteScheduler, Euler), (HeunDiscreteScheduler, Heun)]
)
def test_euler_and_heun_on_karras_levels_are_those_of_diffusers(scheduler, solver, noise):
    theirs = scheduler(**SCHEDULE, beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True)
    theirs.set_timesteps(STEPS)
    sigmas = theirs.sigmas.double()
    process = EDM(sigma_min=float(sigmas[-2]), sigma_max=float(sigmas[0]))
    table = table_of(solver(STEPS), process)
    torch.testing.assert_close(
        sigmas[:-1], torch.tensor([row.level.noise for row in table]).double(), rtol=1e-4, atol=0
    )
    x = sigmas[0] * noise
    for row, time in zip(table, theirs.timesteps, strict=True):
        x = theirs.step(MIXTURE.estimate(x, row.level).noise, time, x).prev_sample.double()
    torch.testing.assert_close(MIXTURE.solve(solver(STEPS), process, noise), x, rtol=0, atol=2e-3)
