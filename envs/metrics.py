"""Intervals for the two numbers an evaluation is judged by.

Success is a proportion: Wilson's score interval. The maximum reward is bounded and far from normal
(many episodes end at exactly 1): a percentile bootstrap with a fixed seed, so that the same
episodes always give the same interval.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, 1927), without continuity correction.

    Raises ValueError unless 0 <= successes <= trials and trials >= 1.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials is no proportion")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p, n = successes / trials, trials
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron, 1979), 10,000 resamples, seed 0.

    Of a single value it is that value twice: one episode says nothing about the spread.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        raise ValueError("no values: the mean of nothing has no interval")
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.array(
        [
            sample[rng.integers(len(sample), size=len(sample))].mean()
            for _ in range(BOOTSTRAP_RESAMPLES)
        ]
    )
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
