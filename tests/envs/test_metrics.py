"""Intervals, against numbers from elsewhere."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dipole.envs.evaluation import EpisodeResult, latency, metrics, summarize
from dipole.envs.evaluation.metrics import (
    mcnemar_p,
    mean_interval,
    paired_proportion_interval,
    resampled_means,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (5, 10, (0.2366, 0.7634)),
        (15, 50, (0.1910, 0.4375)),  # Newcombe (1998)'s method 3
    ],
)
def test_wilson_interval(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-4)


def test_wilson_interval_ends_at_0_without_successes_and_at_1_without_failures():
    for trials in range(1, 201):
        assert wilson_interval(0, trials)[0] == 0.0
        assert wilson_interval(trials, trials)[1] == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 4)])
def test_what_is_no_proportion_is_refused(successes, trials):
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(successes, trials)


def test_mean_interval_is_near_the_normal_one_for_many_values():
    values = np.random.default_rng(5).uniform(size=400)
    half = 1.96 * values.std() / 20
    expected = (values.mean() - half, values.mean() + half)
    assert mean_interval(values) == pytest.approx(expected, abs=0.1 * half)


def test_mean_interval_is_the_same_each_time_and_stays_within_the_values():
    values = [1.0, 1.0, 1.0, 0.2]
    low, high = mean_interval(values)
    assert (low, high) == mean_interval(values)
    assert 0.2 <= low < 0.8 < high <= 1.0


def test_mean_interval_of_one_value_and_of_none():
    assert mean_interval([0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_latency_leaves_out_the_first_call():
    assert latency([9.0, 0.010, 0.010], rows=16) == {"p50": 10, "p99": 10, "rows": 16, "calls": 3}
    assert latency([0.5], rows=1)["p50"] == 500


@pytest.mark.parametrize("n", [2, 9, 129, 300])
def test_the_bootstrap_is_that_of_resampling_one_after_another(n, monkeypatch):
    values = np.random.default_rng(n).uniform(size=n)
    rng = np.random.default_rng(7)
    expected = [values[rng.integers(n, size=n)].mean() for _ in range(100)]
    assert resampled_means(values, 100, seed=7).tolist() == expected
    monkeypatch.setattr(metrics, "BLOCK_NUMBERS", 1000)  # in blocks of a few resamples
    assert resampled_means(values, 100, seed=7).tolist() == expected


def test_the_paired_interval_has_a_width_where_all_pairs_agree():
    half = 1.959964**2 / (20 + 1.959964**2)  # what is left of Tango's score at b = c = 0
    assert paired_proportion_interval(0, 0, 20) == pytest.approx((-half, half), abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_paired_interval_agrees_with_mcnemar_and_is_antisymmetric(first, second, both):
    assume(first + second + both > 0)
    low, high = paired_proportion_interval(first, second, first + second + both)
    pairs = first + second + both
    assert -1 <= low <= (first - second) / pairs <= high <= 1
    assert paired_proportion_interval(second, first, pairs) == pytest.approx((-high, -low))
    differs = (first - second) ** 2 > 1.959963985**2 * (first + second)
    assert differs == (low > 0 or high < 0)


def test_the_paired_interval_covers_the_true_difference():
    rng, covered = np.random.default_rng(0), []
    for first, second, _ in rng.multinomial(60, [0.3, 0.1, 0.6], size=300):
        low, high = paired_proportion_interval(int(first), int(second), 60)
        covered.append(low <= 0.2 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1), (3, 3, 1), (5, 0, 2 / 32), (7, 1, 18 / 256), (1, 7, 18 / 256), (0, 10, 2 / 1024)],
)
def test_mcnemar_s_exact_p(first, second, p):
    assert mcnemar_p(first, second) == pytest.approx(p)


@pytest.mark.parametrize("counts", [(1, 1, 1), (-1, 0, 3), (0, 0, 0)])
def test_impossible_pairs_are_refused(counts):
    with pytest.raises(ValueError, match="impossible"):
        paired_proportion_interval(*counts)


def test_an_episode_that_said_nothing_has_failed_where_others_know_success():
    def episodes(*successes):
        return [EpisodeResult(seed, each, 0.5, 0.5, 3) for seed, each in enumerate(successes)]

    found = summarize(episodes(True, None, False, None))
    assert (found["success_rate"], found["score"], found["score_name"]) == (0.25,) * 2 + (
        "success_rate",
    )
    assert found["success_ci95"] == list(wilson_interval(1, 4))
    assert summarize(episodes(None, None))["success_rate"] is None


def deviation_of_the_most_likely(b, c, n, difference):
    """Tango's statistic, its probability found by search instead of by its formula."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    likelihood = (
        b * np.log(q + difference) + c * np.log(q) + (n - b - c) * np.log(1 - 2 * q - difference)
    )
    variance = n * (2 * q[likelihood.argmax()] + difference * (1 - difference))
    return (b - c - n * difference) / variance**0.5


@pytest.mark.parametrize(("b", "c", "n"), [(3, 1, 10), (0, 0, 12), (14, 13, 200), (7, 0, 40)])
def test_the_ends_of_the_paired_interval_are_as_far_as_a_search_says(b, c, n):
    low, high = paired_proportion_interval(b, c, n)
    assert deviation_of_the_most_likely(b, c, n, low) == pytest.approx(1.96, abs=2e-3)
    assert deviation_of_the_most_likely(b, c, n, high) == pytest.approx(-1.96, abs=2e-3)
