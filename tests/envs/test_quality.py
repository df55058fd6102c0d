"""Fidelity and diversity: closed forms, and samplers that lack one or the other."""

from math import erf, exp, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.envs.quality.distances import (
    chunk_distances,
    energy_distance,
    energy_scores,
    errors,
    spreads,
)
from dipole.envs.quality.manifold import precision_recall
from dipole.envs.quality.modes import mode_entropy

SEEDS = st.integers(0, 2**32 - 1)


def test_a_distance_is_the_root_mean_square_over_a_chunk_s_numbers():
    first, second = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 4.0]])
    assert chunk_distances(first, second).tolist() == [[pytest.approx(12.5**0.5)], [0]]


@given(SEEDS, st.floats(-5, 5), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_distances_do_not_depend_on_where_zero_is_and_scale_with_the_unit(seed, shift, scale):
    rng = np.random.default_rng(seed)
    samples, demonstrated = rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 3))
    moved = scale * samples + shift, scale * demonstrated + shift
    assert energy_scores(*moved) == pytest.approx(scale * energy_scores(samples, demonstrated))
    before = energy_distance(samples[:, 0], demonstrated)
    assert energy_distance(moved[0][:, 0], moved[1]) == pytest.approx(scale * before, abs=1e-9)
    assert precision_recall(moved[0][:, 0], moved[1]) == precision_recall(
        samples[:, 0], demonstrated
    )


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_order_of_samples_and_of_observations_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    samples, demonstrated = rng.normal(size=(7, 5, 2)), rng.normal(size=(7, 2))
    rows, columns = rng.permutation(7), rng.permutation(5)
    scores = energy_scores(samples, demonstrated)
    assert energy_scores(samples[:, columns], demonstrated) == pytest.approx(scores)
    assert energy_scores(samples[rows], demonstrated[rows]) == pytest.approx(scores[rows])
    first = samples[:, 0]
    distance = energy_distance(first, demonstrated)
    assert energy_distance(first[rows], demonstrated[rows]) == pytest.approx(distance)
    assert energy_distance(demonstrated, first) == pytest.approx(distance)


def test_equal_distributions_have_no_energy_distance_on_average():
    rng = np.random.default_rng(0)
    found = [energy_distance(*rng.normal(size=(2, 50, 3))) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / 200**0.5)
    assert min(found) < 0 < max(found)


def test_samples_that_are_the_same_have_no_spread_at_all():
    samples = np.random.default_rng(8).normal(100, 1, size=(9, 1, 32)).repeat(5, axis=1)
    assert spreads(samples).tolist() == [0] * 9
    assert chunk_distances(samples[:, 0], samples[:, 0]).diagonal() == pytest.approx(0, abs=1e-7)


def test_pairs_of_one_observation_do_not_count():
    """Chunks depend on the observation, 100 apart: the distance is that of what is left, none."""
    rng = np.random.default_rng(1)
    at = 100 * np.arange(40.0)[:, None]
    found = [
        energy_distance(at + rng.normal(size=(40, 1)), at + rng.normal(size=(40, 1)))
        for _ in range(100)
    ]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / 10)
    assert np.std(found) < 0.2


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shifted_gaussians_have_the_known_energy_distance(shift):
    """E|N(m, 2)| = 2 exp(-m^2 / 4) / sqrt(pi) + m erf(m / 2)."""
    rng = np.random.default_rng(2)
    found = [
        energy_distance(rng.normal(size=(200, 1)), rng.normal(shift, size=(200, 1)))
        for _ in range(100)
    ]
    between = 2 * exp(-(shift**2) / 4) / pi**0.5 + shift * erf(shift / 2)
    expected = 2 * between - 4 / pi**0.5
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 10)
    assert np.std(found) < expected


def test_the_energy_score_is_half_the_distance_beside_the_data_s_own_spread():
    """X, y ~ N(0, 1): E|X - y| - E|X - X'| / 2 = 1 / sqrt(pi)."""
    rng = np.random.default_rng(3)
    samples, done = rng.normal(size=(20_000, 2, 1)), rng.normal(size=(20_000, 1))
    assert energy_scores(samples, done).mean() == pytest.approx(np.pi**-0.5, abs=0.02)
    assert errors(samples, done).mean() == pytest.approx(2 * np.pi**-0.5, abs=0.03)
    assert spreads(samples).mean() == pytest.approx(2 * np.pi**-0.5, abs=0.03)


def two_modes(rng, shape):
    """-1 or 1, and little noise."""
    return rng.choice([-1.0, 1.0], size=shape) + rng.normal(0, 0.05, size=shape)


def test_the_mean_of_two_modes_has_the_least_error_but_a_bad_energy_score():
    rng = np.random.default_rng(4)
    done = two_modes(rng, (500, 1))
    right = two_modes(rng, (500, 16, 1))
    mean = np.zeros((500, 16, 1))
    one_mode = 1 + rng.normal(0, 0.05, size=(500, 16, 1))
    assert np.mean((mean - done[:, None]) ** 2) < 0.6 * np.mean((right - done[:, None]) ** 2)
    assert errors(mean, done).mean() == pytest.approx(errors(right, done).mean(), abs=0.05)
    scores = [energy_scores(each, done).mean() for each in (right, mean, one_mode)]
    assert scores == pytest.approx([0.53, 1, 0.97], abs=0.07)
    ratios = [spreads(each).mean() / errors(each, done).mean() for each in (right, mean, one_mode)]
    assert ratios == [pytest.approx(1, abs=0.05), 0, pytest.approx(0.056, abs=0.02)]
    distances = [energy_distance(each[:, 0], done) for each in (right, mean, one_mode)]
    assert distances == pytest.approx([0, 0.95, 0.95], abs=0.1)


def test_wrong_samplers_score_worse_than_the_right_one():
    rng = np.random.default_rng(5)
    done = rng.normal(size=(2000, 4))
    score = {
        width: energy_scores(rng.normal(0, width, size=(2000, 8, 4)), done).mean()
        for width in (0.0, 0.5, 1.0, 2.0)
    }
    assert min(score, key=score.get) == 1.0
    assert score[0.0] > score[0.5] > score[1.0] < score[2.0]


def test_a_collapsed_sampler_has_precision_without_recall_and_a_wide_one_the_reverse():
    rng = np.random.default_rng(6)
    done = rng.normal(size=(300, 2))
    same = precision_recall(rng.normal(size=(300, 2)), done)
    collapsed = precision_recall(rng.normal(0, 0.1, size=(300, 2)), done)
    wide = precision_recall(rng.normal(0, 10, size=(300, 2)), done)
    assert min(same) > 0.85
    assert collapsed[0] == 1
    assert collapsed[1] < 0.1
    assert wide[0] < 0.15
    assert wide[1] > 0.85


def test_a_set_covers_itself_and_too_few_chunks_are_refused():
    chunks = np.random.default_rng(7).normal(size=(5, 2))
    assert precision_recall(chunks, chunks) == (1, 1)
    assert precision_recall(chunks, chunks + 100) == (0, 0)
    with pytest.raises(ValueError, match="3 and 5 chunks have no 3 neighbours"):
        precision_recall(chunks[:3], chunks)


@pytest.mark.parametrize(
    ("modes", "known", "entropy"),
    [
        (["left", "right"] * 5, 0, 1),
        (["left"] * 3 + ["right"], 2, 0.8113),
        (["left"] * 9, 2, 0),
        (["left", "right"], 4, 0.5),
        (["left"] * 9, 0, None),
        ([], 2, None),
    ],
)
def test_mode_entropy_is_a_share_of_the_largest(modes, known, entropy):
    expected = None if entropy is None else pytest.approx(entropy, abs=1e-4)
    assert mode_entropy(modes, known) == expected
