"""The closed-form denoiser is the one that its density says, at any level."""

import math

import pytest
import torch

from dipole.data.core.errors import ConfigError
from dipole.policy.diffusion.analytic import GaussianMixture

MIXTURE = GaussianMixture.of([[0.0, -0.7], [0.8, 0.6]], 0.2, [3.0, 1.0])
LEVELS = [(1.0, 0.3), (0.6, 0.8), (0.3, 0.7), (1.0, 40.0), (1e-3, 1.0)]  # edm, vp, flow, the ends


def test_one_gaussian_is_pulled_to_its_mean():
    mixture = GaussianMixture.of([[2.0]], 0.5)
    x = torch.tensor([[3.0]], dtype=torch.float64)
    # the variances of clean and noise are as 1 to 4: a fifth of the way from the mean to x
    assert mixture.clean(x, 1.0, 1.0).item() == pytest.approx(2.2)
    expected = -0.5 * (1 / 1.25 + math.log(2 * math.pi * 1.25))
    assert mixture.log_density(x, 1.0, 1.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(("signal", "noise"), LEVELS)
def test_the_denoiser_follows_from_the_density_s_gradient(signal, noise):
    """Tweedie's formula: signal E[clean | x] = x + noise^2 grad log p(x)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 2, generator=generator, dtype=torch.float64) * noise
    x.requires_grad_()
    (score,) = torch.autograd.grad(MIXTURE.log_density(x, signal, noise).sum(), x)
    expected = (x + noise**2 * score) / signal
    torch.testing.assert_close(MIXTURE.clean(x, signal, noise), expected, rtol=1e-7, atol=1e-7)


def test_rows_may_have_levels_of_their_own():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    signal, noise = torch.tensor([0.9, 0.5, 0.1]).double(), torch.tensor([0.1, 0.6, 1.0]).double()
    together = MIXTURE.clean(x, signal, noise)
    for row in range(3):
        alone = MIXTURE.clean(x[row : row + 1], float(signal[row]), float(noise[row]))
        torch.testing.assert_close(together[row : row + 1], alone)


def test_chunks_are_vectors_in_another_shape():
    flat = GaussianMixture.of([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.0, 1.0]], 0.3)
    means = flat.means.reshape(2, 2, 2)
    chunks = GaussianMixture(means, flat.deviations, flat.weights)
    x = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(
        chunks.clean(x, 0.7, 0.5).flatten(1), flat.clean(x.flatten(1), 0.7, 0.5)
    )


def test_samples_have_the_mixture_s_shares_and_spread():
    drawn = MIXTURE.sample(20_000, torch.Generator().manual_seed(0))
    found = MIXTURE.component(drawn)
    assert float((found == 0).double().mean()) == pytest.approx(0.75, abs=0.012)  # 4 deviations
    assert float(drawn[found == 1].std(0).mean()) == pytest.approx(0.2, abs=0.01)


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="weights is"):
        GaussianMixture.of([[0.0], [1.0]], 0.1, [1.0])
    with pytest.raises(ConfigError, match=r"deviations is \[0.0\]"):
        GaussianMixture.of([[0.0]], 0.0)
