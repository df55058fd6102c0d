"""Noise processes and predictions against literal numbers and against diffusers."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler

from dipole.policy.core.components import PREDICTIONS
from dipole.policy.diffusion import predictions  # noqa: F401  they register themselves
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.processes import EDM, Flow, VariancePreserving
from dipole.policy.diffusion.solvers import Euler, Heun

PUBLISHED = VariancePreserving()
PROCESSES = [PUBLISHED, VariancePreserving(continuous=True), Flow(), EDM()]


def test_squared_cosine_schedule():
    alphas = PUBLISHED.alphas_cumprod.double()
    betas = 1 - alphas / torch.cat([torch.ones(1, dtype=torch.double), alphas[:-1]])
    expected = {0: 0.99936872, 50: 0.47826463, 98: 2.4285723e-4, 99: 2.4285723e-7}
    for time, kept in expected.items():
        assert float(alphas[time]) == pytest.approx(kept, rel=2e-5)  # single precision
    for time, beta in {0: 0.00063128, 50: 0.03154634, 99: 0.999}.items():
        assert float(betas[time]) == pytest.approx(beta, abs=1e-6)


def test_forward_process_is_that_of_diffusers():
    clean, noise = torch.randn(2, 5, 4, 3).unbind()
    time = torch.tensor([0, 1, 50, 98, 99])
    theirs = DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    ours = PUBLISHED.level(time).over(clean).mix(clean, noise)
    assert torch.allclose(ours, theirs.add_noise(clean, noise, time), atol=1e-6)


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear", "scaled_linear"])
@pytest.mark.parametrize("n_steps", [2, 10, 100, 1000])
def test_schedules_are_those_of_diffusers_to_the_last_bit(schedule, n_steps):
    ours = VariancePreserving(schedule, n_steps, beta_start=0.00085, beta_end=0.012)
    theirs = DDPMScheduler(n_steps, beta_start=0.00085, beta_end=0.012, beta_schedule=schedule)
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)


def test_between_the_levels_of_a_table_the_log_snr_is_interpolated():
    whole, half = PUBLISHED.level(torch.tensor([40, 41])), PUBLISHED.level(torch.tensor([40.5]))
    ratios = torch.log(whole.signal / whole.noise)
    assert float(torch.log(half.signal / half.noise)) == pytest.approx(
        float(ratios.mean()), abs=1e-5
    )
    at = PUBLISHED.level(torch.arange(100, dtype=torch.float64))
    assert torch.equal(at.signal, PUBLISHED.alphas_cumprod.double().sqrt())


def test_the_straight_path_is_noise_at_1_and_the_chunk_at_0():
    level = Flow().level(torch.tensor([1.0, 0.25, 0.0]))
    assert level.signal.tolist() == [0.0, 0.75, 1.0]
    assert level.noise.tolist() == [1.0, 0.25, 0.0]
    assert [each.noise for each in Euler(4).levels(Flow())] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_karras_levels_of_edm():
    levels = [each.noise for each in Heun(5).levels(EDM())]
    assert levels[0] == pytest.approx(80.0)
    assert levels[4] == pytest.approx(0.002)
    assert levels[5] == 0
    roots = [level ** (1 / 7) for level in levels[:-1]]
    assert all(b - a == pytest.approx(roots[1] - roots[0], abs=1e-9) for a, b in pairwise(roots))


@pytest.mark.parametrize("times", ["uniform", "logit_normal", "beta"])
def test_times_of_training_have_their_distribution(times):
    torch.manual_seed(0)
    drawn = Flow(times).sample_times((50_000,), "cpu")
    mean, variance = {
        "uniform": (1 / 2, 1 / 12),
        "logit_normal": (1 / 2, 0.0433),
        "beta": (0.6, 1.5 / (2.5**2 * 3.5)),
    }[times]
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.005)
    assert float(drawn.var()) == pytest.approx(variance, abs=0.002)


def test_sigmas_of_training_are_log_normal():
    torch.manual_seed(0)
    drawn = EDM().sample_times((50_000,), "cpu").log()
    assert float(drawn.mean()) == pytest.approx(-1.2, abs=0.02)
    assert float(drawn.std()) == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("name", ["noise", "sample", "v", "velocity", "edm"])
def test_the_right_output_says_what_x_is_made_of(name, process):
    prediction = PREDICTIONS[name]()
    for level in [each for each in Euler(10).levels(process) if not each.is_clean and each.signal]:
        clean, noise = torch.randn(2, 3, 4, 2, dtype=torch.float64).unbind()
        x = level.mix(clean, noise)
        found = prediction.estimate(prediction.target(clean, noise, level), x, level)
        assert torch.allclose(found.clean, clean, atol=1e-6 / level.signal), level
        assert torch.allclose(found.noise, noise, atol=1e-6 / level.noise), level


def test_preconditioning_gives_the_network_numbers_of_unit_variance():
    torch.manual_seed(0)
    prediction = PREDICTIONS["edm"](sigma_data=0.5)
    for sigma in (0.01, 0.5, 20.0):
        level = Level(0.0, 1.0, sigma)
        clean, noise = 0.5 * torch.randn(100_000), torch.randn(100_000)
        given = prediction.network_input(level.mix(clean, noise), level)
        target = prediction.target(clean, noise, level)
        assert float(given.std()) == pytest.approx(1, abs=0.02)
        assert float(target.std()) == pytest.approx(1, abs=0.02)


def test_continuous_times_reach_from_the_first_level_to_the_last_and_no_further():
    times = VariancePreserving(continuous=True).sample_times((20_000,), "cpu")
    assert 0 <= float(times.min()) < 0.1
    assert 98.9 < float(times.max()) <= 99


def test_times_around_a_positive_logit_lie_nearer_to_noise():
    torch.manual_seed(0)
    times = Flow("logit_normal", logit_mean=1.0, logit_std=0.5).sample_times((20_000,), "cpu")
    logits = times.logit()
    assert float(logits.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.5, abs=0.02)


def test_networks_are_told_times_from_0_to_100_by_every_process():
    sigmas = torch.tensor([0.002, 80.0], dtype=torch.double)
    assert EDM().level(sigmas).time.tolist() == pytest.approx([0.0, 100.0])
    assert Flow().level(torch.tensor([0.0, 1.0])).time.tolist() == [0.0, 100.0]
    assert PUBLISHED.level(torch.tensor([0, 99])).time.tolist() == [0, 99]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda each: type(each).__name__)
def test_known_tokens_are_told_the_time_of_the_least_noise(process):
    assert (process.clean.time, process.clean.signal, process.clean.noise) == (0.0, 1.0, 0.0)


def test_preconditioning_takes_actions_for_half_a_unit_wide():
    """At sigma 0.5 half of the variance is the data's: c_skip 1/2, c_in sqrt(2), c_out 1/(2 sqrt 2)
    (Karras et al., 2022, table 1)."""
    prediction, level = PREDICTIONS["edm"](), Level(0.0, 1.0, 0.5)
    x, output = torch.tensor([1.0]), torch.tensor([1.0])
    assert prediction.network_input(x, level).item() == pytest.approx(math.sqrt(2))
    clean = prediction.estimate(output, x, level).clean.item()
    assert clean == pytest.approx(0.5 + 0.5 / math.sqrt(2))
