"""Intervals, against numbers from elsewhere."""

import numpy as np
import pytest

from dipole.envs.evaluation import latency
from dipole.envs.metrics import mean_interval, wilson_interval


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
