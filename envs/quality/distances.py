"""How far sampled chunks are from demonstrated ones, as distributions.

A chunk is a row of numbers in standard deviations of the demonstrated actions, and its length the
root mean square over them, so that neither units nor the chunk's length change a distance's size.
"""

import numpy as np


def chunk_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|x - y| = sqrt(mean((x - y)^2)) of every pair, [..., N, M].

    first: [..., N, D]; second: [..., M, D], of the same leading shape.
    """
    origin = np.asarray(first, float)[..., :1, :]  # where rounding is least; equal rows have 0
    first, second = first - origin, second - origin
    squares = (first**2).sum(-1)[..., :, None] + (second**2).sum(-1)[..., None, :]
    squares = squares - 2 * first @ np.swapaxes(second, -1, -2)
    distances: np.ndarray = np.sqrt(np.maximum(squares, 0) / first.shape[-1])
    return distances


def errors(samples: np.ndarray, demonstrated: np.ndarray) -> np.ndarray:
    """Mean distance of an observation's samples to its demonstrated chunk, [N].

    samples: [N, S, D]; demonstrated: [N, D].
    """
    mean: np.ndarray = chunk_distances(samples, demonstrated[:, None])[..., 0].mean(1)
    return mean


def spreads(samples: np.ndarray) -> np.ndarray:
    """Mean distance of two samples of one observation, [N]; 0 for a policy that always does the
    same. samples: [N, S, D], S at least 2."""
    count = samples.shape[1]
    within = chunk_distances(samples, samples)
    within[:, range(count), range(count)] = 0  # exactly, whatever rounding left
    mean: np.ndarray = within.sum((1, 2)) / (count * (count - 1))
    return mean


def energy_scores(samples: np.ndarray, demonstrated: np.ndarray) -> np.ndarray:
    """Energy score of each observation, E|X - y| - E|X - X'| / 2, [N], unbiased.

    samples: [N, S, D], of the policy for an observation; demonstrated: [N, D], what was done.

    Its expectation over y ~ q is half the energy distance of the policy's p and q, and a term of q
    alone: it is least where p = q and nowhere else (strictly proper). One demonstration of each
    observation is enough. (Gneiting & Raftery, 2007, eq. 21, with beta = 1.)
    """
    scores: np.ndarray = errors(samples, demonstrated) - spreads(samples) / 2
    return scores


def energy_distance(first: np.ndarray, second: np.ndarray) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of the pooled chunks (Szekely & Rizzo, 2013), unbiased.

    first, second: [N, D], row i of both for the same observation: pairs of one observation are left
    out of all three means, so that equal distributions give 0 on average, and chance a negative
    number as often as a positive one. N at least 2.
    """
    between, own, other = (
        _mean_off_diagonal(chunk_distances(a, b))
        for a, b in ((first, second), (first, first), (second, second))
    )
    return 2 * between - own - other


def _mean_off_diagonal(distances: np.ndarray) -> float:
    count = len(distances)
    return float((distances.sum() - np.trace(distances)) / (count * (count - 1)))
