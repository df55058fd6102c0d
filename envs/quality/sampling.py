"""Chunks that a policy draws for given observations."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from dipole.policy.execution.executor import ROWS, ChunkPolicy, predict_rows


def sample_chunks(
    policy: ChunkPolicy,
    observation: Mapping[str, np.ndarray],
    samples: int,
    seed: int,
    pool: ThreadPoolExecutor | None = None,
) -> np.ndarray:
    """`samples` independent chunks for each of N observations, [N, samples, H, A].

    observation: {name: [N, To, *shape]}, in the robot's numbers. Sample j of observation i has
    noise of its own, a function of seed, i and j. pool: Infers for several groups at once.
    """
    count = len(next(iter(observation.values())))
    rows = np.repeat(np.arange(count), samples)
    numbers = np.arange(len(rows))

    def infer(group: np.ndarray) -> np.ndarray:
        generators = [_generator(seed, int(number)) for number in group]
        batch = {name: value[rows[group]] for name, value in observation.items()}
        return predict_rows(policy, batch, generators, ROWS)

    groups = [numbers[start : start + ROWS] for start in range(0, len(numbers), ROWS)]
    chunks = list(pool.map(infer, groups) if pool else map(infer, groups))
    drawn = np.concatenate(chunks)  # [N * samples, H, A]
    return drawn.reshape(count, samples, *drawn.shape[1:])


def _generator(seed: int, number: int) -> torch.Generator:
    """On the processor, whatever the policy's device; far from those of episodes."""
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))
