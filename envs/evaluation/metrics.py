"""Intervals for what an evaluation is judged by, and for the difference of two evaluations.

Success is a proportion: Wilson's score interval, and of a difference in pairs Tango's. Rewards are
bounded and far from normal (many episodes end at exactly 1): a percentile bootstrap with a fixed
seed, so that the same episodes always give the same interval.
"""

from collections.abc import Callable, Sequence
from math import comb, sqrt
from statistics import NormalDist

import numpy as np

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
BLOCK_NUMBERS = 2**20  # resampled at once: 16 MiB of indices and values
BISECTIONS = 60


def wilson_interval(successes: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, 1927), without continuity correction.

    Numbers that are not whole are those of a weighted mean, by how many equal trials it is worth.
    Raises ValueError unless 0 <= successes <= trials and trials >= 1.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials is no proportion")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p, n = successes / trials, trials
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    # Without successes, or failures, one end is exact, and rounding would leave it beside 0 or 1.
    low = centre - half if successes > 0 else 0.0
    high = centre + half if successes < trials else 1.0
    return max(0.0, low), min(1.0, high)


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron, 1979), 10,000 resamples, seed 0.

    Of paired differences it is the paired bootstrap. Of a single value it is that value twice: one
    episode says nothing about the spread.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        raise ValueError("no values: the mean of nothing has no interval")
    means = resampled_means(sample, BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def mean_over_groups_interval(
    groups: Sequence[Sequence[float]], level: float = 0.95
) -> tuple[float, float]:
    """`mean_interval` of the mean of group means, each group resampled on its own."""
    each = [
        resampled_means(np.asarray(group, np.float64), BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED + i)
        for i, group in enumerate(groups)
    ]
    low, high = np.quantile(np.mean(each, axis=0), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def proportion_over_groups_interval(
    groups: Sequence[tuple[int, int]], level: float = 0.95
) -> tuple[float, float]:
    """Wilson's interval of the mean of group proportions, (successes, trials) each.

    Its number of trials is that of equal weight: 1 / sum(1 / (groups^2 trials)), all of them where
    the groups are of one size. That groups differ makes the mean more certain than it says.
    """
    mean = sum(successes / trials for successes, trials in groups) / len(groups)
    trials = len(groups) ** 2 / sum(1 / trials for _, trials in groups)
    return wilson_interval(mean * trials, trials, level)


def resampled_means(sample: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of samples drawn with replacement, float64 [resamples], in bounded memory.

    sample: float64 [N]. However many resamples are drawn at once, they are the same.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, BLOCK_NUMBERS // len(sample))
    means = [
        sample[rng.integers(len(sample), size=(min(at_once, resamples - done), len(sample)))].mean(
            1
        )
        for done in range(0, resamples, at_once)
    ]
    return np.concatenate(means)


def paired_proportion_interval(
    only_first: int, only_second: int, pairs: int, level: float = 0.95
) -> tuple[float, float]:
    """Score interval of a difference of two paired proportions (Tango, 1998), first - second.

    only_first, only_second: Pairs in which this one alone succeeded. The interval leaves out 0
    where McNemar's statistic (only_first - only_second)^2 / (only_first + only_second) exceeds z^2.
    Unlike a bootstrap it has a width where all pairs agree. Raises ValueError for counts
    that cannot be.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > pairs or pairs < 1:
        raise ValueError(f"{only_first} and {only_second} of {pairs} pairs is impossible")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    estimate = (only_first - only_second) / pairs

    def excess(difference: float) -> float:
        return abs(_tango_score(only_first, only_second, pairs, difference)) - z

    return _root(excess, estimate, -1.0), _root(excess, estimate, 1.0)


def _tango_score(b: int, c: int, n: int, difference: float) -> float:
    """Standardised deviation of b - c from n * difference (Tango, 1998, eq. 8).

    Its variance takes the probability of c that is most likely given the difference (eq. 9).
    """
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    root = sqrt(max(0.0, linear**2 - 8 * n * constant))
    probability = (root - linear) / (4 * n)
    variance = n * max(0.0, 2 * probability + difference * (1 - difference))
    deviation = b - c - n * difference
    if variance == 0:
        return 0.0 if deviation == 0 else float("inf") * deviation
    return deviation / sqrt(variance)


def _root(function: Callable[[float], float], inside: float, outside: float) -> float:
    """Where a function turns positive between `inside` and `outside`; `outside` if it does not."""
    if function(outside) <= 0:
        return outside
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        if function(middle) <= 0:
            inside = middle
        else:
            outside = middle
    return outside


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test (McNemar, 1947): the pairs that differ are fair coins.

    only_first, only_second: Pairs in which this one alone succeeded. 1 where there are none.
    """
    differing, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(differing, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / (1 << differing))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for being several (Holm, 1979), in their order: below 0.05 for any of them
    by chance in at most 5 % of cases."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
