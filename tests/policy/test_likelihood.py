"""The probability-flow ODE's log-likelihood is that of the mixture, for any process."""

import math
from types import SimpleNamespace

import pytest
import torch

from dipole.policy.diffusion.analytic import GaussianMixture
from dipole.policy.diffusion.likelihood import log_likelihood
from dipole.policy.diffusion.processes import EDM, Flow, VariancePreserving
from dipole.policy.heads.diffusion import DiffusionHead

MIXTURE = GaussianMixture.of([[-0.5, -0.3], [0.5, 0.3], [0.1, -0.6]], 0.15, [2.0, 1.0, 1.0])
GRIDS = {
    "vp": (VariancePreserving(), 100, "uniform"),
    "vp's table": (VariancePreserving(num_train_timesteps=1000), 250, "leading"),
    "flow": (Flow(), 200, "uniform"),
    "edm": (EDM(), 200, "karras"),
}


def samples(rows=200):
    return MIXTURE.sample(rows, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", GRIDS)
def test_it_is_that_of_the_mixture_within_one_per_cent(name):
    process, steps, spacing = GRIDS[name]
    levels = process.grid(steps, spacing)
    found = log_likelihood(MIXTURE.estimate, samples(), levels, process.start_scale(levels[0]))
    right = MIXTURE.log_density(samples())
    assert float(found.mean()) == pytest.approx(float(right.mean()), rel=0.01)
    assert float((found - right).abs().max()) < 0.1


@pytest.mark.parametrize("process", [VariancePreserving(), Flow(), EDM()])
def test_a_head_begins_at_the_most_noise_whatever_the_number_of_steps(process):
    head = SimpleNamespace(
        process=process,
        denoiser=SimpleNamespace(prepare_context=lambda context: None),
        prepared_times=lambda table: None,
        estimate=lambda x, level, time, context: MIXTURE.estimate(x, level),
    )
    right = float(MIXTURE.log_density(samples()).mean())
    for steps in (60, 99):
        found = DiffusionHead.log_likelihood(head, samples(), None, steps=steps)
        assert float(found.mean()) == pytest.approx(right, abs=0.02)


def test_half_the_steps_make_a_fourth_of_the_difference():
    right = MIXTURE.log_density(samples())
    differences = []
    for steps in (50, 100):
        levels = Flow().grid(steps)
        found = log_likelihood(MIXTURE.estimate, samples(), levels, 1.0)
        differences.append(float((found - right).square().mean().sqrt()))
    assert differences[0] > 2.5 * differences[1]


def test_random_directions_are_right_on_average():
    levels, chunks = Flow().grid(50), samples(4)
    exact = log_likelihood(MIXTURE.estimate, chunks, levels, 1.0)
    generator = torch.Generator().manual_seed(0)
    drawn = log_likelihood(MIXTURE.estimate, chunks, levels, 1.0, probes=64, generator=generator)
    assert (drawn - exact).abs().max() < 0.3
    assert not torch.equal(drawn, exact)


def test_random_directions_are_drawn_where_the_generator_lives(monkeypatch):
    drawn = []

    def randint(high, size, generator, device):
        drawn.append((generator.device, device))
        return torch.zeros(size, dtype=torch.long)

    monkeypatch.setattr(torch, "randint", randint)
    generator = SimpleNamespace(device=torch.device("cuda"))
    log_likelihood(MIXTURE.estimate, samples(2), Flow().grid(4), 1.0, probes=2, generator=generator)
    assert drawn == [(torch.device("cuda"), torch.device("cuda"))]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_generator_of_a_gpu_draws_directions():
    generator = torch.Generator("cuda").manual_seed(0)
    levels = Flow().grid(10)
    log_likelihood(MIXTURE.estimate, samples(2), levels, 1.0, probes=2, generator=generator)


def test_chunks_of_one_gaussian_have_its_density():
    means = torch.full((1, 3, 2), 0.2, dtype=torch.float64)
    gaussian = GaussianMixture(means, torch.tensor([0.5]).double(), torch.tensor([1.0]).double())
    levels = EDM().grid(100)
    found = log_likelihood(gaussian.estimate, means, levels, 80.0)
    expected = -6 * math.log(0.5 * math.sqrt(2 * math.pi))  # at its mean, six numbers
    assert float(found) == pytest.approx(expected, abs=0.02)


def test_no_directions_are_refused():
    with pytest.raises(ValueError, match="probes is 0"):
        log_likelihood(MIXTURE.estimate, samples(2), Flow().grid(4), 1.0, probes=0)
